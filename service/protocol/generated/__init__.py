"""Made from planner.proto by `make proto`; do not edit."""
