"""What the service and its clients agree on: arrays, spaces, schemas, errors and the gRPC messages.

Needs numpy, msgpack, Pillow and pydantic (and protobuf for :mod:`service.protocol.protobuf`); never torch
and never a web framework. One module a subject:

=================  ==========================================================================================
``limits``         :class:`Limits`: the bounds on body size, array size, nesting, horizon, samples, ...
``media``          media types, ``Content-Type``/``Accept`` negotiation
``errors``         :class:`ProblemError` and the table of codes, HTTP statuses and gRPC statuses
``arrays``         one array <-> nested lists, ``{"dtype", "shape", "data"}``, png/jpeg/webp
``values``         observations and actions, validated against their spaces (:mod:`thick.spaces`)
``bodies``         whole bodies <-> bytes, JSON and msgpack, with every array in its place
``requests``       what a client may ask (pydantic), with errors that name the nearest right field
``responses``      what the service answers (pydantic; used to describe the API)
``events``         server-sent events: writing and reading them
``digests``        a request's fingerprint, equal for equal content in any encoding (exactly-once steps)
``protobuf``       protobuf messages <-> the same dicts that JSON carries
``protobuf_parts`` how many parts a message has, counted before it is parsed
``pictures``       what a model imagines, as a contact sheet or a film (Pillow)
``generate``       makes ``generated/`` from ``planner.proto``
=================  ==========================================================================================
"""
