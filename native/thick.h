/* What Python and the kernels share: plain records and plain functions (C11, no C++).
 *
 * Symbols: S groups of z with K classes each, H size of h, C size of c, A size of an action, E size of an embedding,
 * G high-level actions. A row is one state. Arrays are dense and row-major; class indices are int64, and -1 in the
 * first group says that z is the zero vector.
 *
 * Same bits everywhere: vector lanes are output columns, the loop over inputs is sequential with explicit FMA, scalar
 * outputs go through 16 partial sums and a fixed tree, exp and tanh are polynomials of our own. So an output depends
 * neither on the width of vectors, nor on the number of rows, the tile, the thread or the processor.
 */
#ifndef THICK_H
#define THICK_H

#include <stdint.h>

#define COLUMNS 16 /* columns of a panel of weights; outputs are padded to a multiple of it */
#define SLICE 64   /* columns of a slice of a table */
#define LAYERS 8   /* most layers of a chain */
#define TILE 192   /* most rows that are computed together */
#define BUFFERS 8  /* that an operation works in, of as many rows as are computed together */

/* y = x W + b. Weights lie in panels of 16 columns, [outputs/16][inputs][16]. */
typedef struct {
  const float *weight, *bias;
  int64_t inputs, outputs;
} Dense;

/* Dense layers, each followed by ELU (the last one not if `linear`). With groups, the first layer also reads classes: a
 * one-hot times weights is a row of them. A last layer with one output has weights [inputs padded], no panels. */
typedef struct {
  const float *table;     /* [slices of 64 outputs of the first layer, the last of what is left][classes][outputs] */
  const int64_t *offsets; /* [groups] where the classes of a group begin */
  int64_t classes;        /* of all groups */
  int64_t groups, layers, linear;
  Dense layer[LAYERS];
} Chain;

/* A low level: RSSM (context 0) or C-RSSM. Logits lie class-major, [K][S padded]. */
typedef struct {
  int64_t stoch, classes, deter, hidden, context, action;
  float threshold; /* smallest movement of a context that counts as a change; 0 counts every open gate */
  float gamma;
  Chain img_in;                          /* z, a -> x */
  Dense gatel0rd;                        /* [x, c] -> gate, candidate (each padded) */
  Dense gru;                             /* [x, c', h] -> reset, candidate, update (each padded) */
  Dense img_out, img_logit;              /* [c', h'] -> logits of the fine prior */
  Dense obs_memory, obs_embed;           /* [c', h'] and e; the first has no inputs where the posterior reads e alone */
  Dense obs_logit;
  Chain reward, discount;                /* z, [c, h]; no layers where there is none */
} Low;

/* A high level with the coarse path. */
typedef struct {
  const Low *low;
  int64_t actions, continuous;
  float max_time, log_gamma;
  Chain body;                            /* z, [c, A] */
  Chain state, act, time, segment;       /* body -> logits of z[tau-1] (class-major), a, elapsed, R */
  Chain summary, coarse;                 /* z, [a, c'] -> m;  z, m -> logits of z[tau] (class-major) */
  Chain reward, discount;                /* z, c */
} High;

/* -- operations: each is a record; rows [first, first + count) of it are computed independently of all others -------- */

typedef struct {
  const Chain *chain;
  const int64_t *stoch; /* [rows][groups] */
  const float *x;       /* [rows][inputs of the first layer] */
  float *y;             /* [rows][outputs of the last layer, padded to 16 unless it is 1] */
} ChainRows;

/* One imagined step, or one observed step where there are embeddings. */
typedef struct {
  const Low *low;
  const int64_t *stoch;                                  /* [rows][S] */
  const float *deter, *context, *action;                 /* [rows][H], [C], [A] */
  const float *uniforms;                                 /* [rows][S]; NULL takes modes */
  const float *embedding;                                /* [rows][E]; NULL imagines */
  int64_t *next_stoch;
  float *logits, *next_deter, *next_context, *gates;     /* [rows][S][K], [H], [C], [C] */
} StepRows;

/* States and what an objective carries along, one for each node of a rollout. */
typedef struct {
  int64_t *stoch;                                        /* [nodes][S] */
  float *memory;                                         /* [nodes][C + H]: c, h */
  float *total, *alive, *credit, *won;                   /* [nodes] */
  uint8_t *near, *arrived;                               /* [nodes] */
  int32_t *session;                                      /* [nodes] */
} Nodes;

/* All steps of the candidates of a search, with the objective folded in. A row is a step from a node to a node; the rows
 * of a step follow those of the step before, and may begin where those end. */
typedef struct {
  const Low *low;
  Nodes nodes;
  int64_t steps, sessions;
  const int64_t *ends;                                   /* [steps] rows of this step and of those before */
  const int64_t *parent, *node;                          /* [rows] */
  const int64_t *chosen;                                 /* [rows] which action; NULL where they are continuous */
  const StepRows *begun;                                 /* a step of each session by each action, [sessions][A]: the
                                                            first one of candidates but for what they draw; or NULL */
  const float *candidates;                               /* [rows of a step][steps][A] */
  const uint64_t *keys;                                  /* [steps][sessions] of uniform numbers; NULL takes modes */
  int64_t draw;                                          /* which S of the numbers its first candidate gets */
  const float *weight;                                   /* [steps] of the reward */
  float bonus;
  float ending;                                          /* an end with more reward counts as an arrival; 0: none does */
  int64_t arrival;
  const float *goal;                                     /* [sessions][K][S padded]; NULL without a subgoal */
  const float *goal_context;                             /* [sessions][C] */
  const float *distance, *least;                         /* [sessions]: of the present context; near from there on */
  const uint8_t *ends_there;                             /* [sessions] the episode is expected to end at the goal */
} SearchRows;

/* Subgoals as SearchRows wants them, and how near beliefs are to them. */
typedef struct {
  const Low *low;
  const float *goal, *logits;                            /* [rows][S][K]; unit length in each group; of the beliefs */
  float *class_major, *similarity;                       /* [rows][K][S padded], [rows] */
} GoalRows;

/* Where jumps lead. Row i jumps from state i / each by action i % each, or by its own if there are actions. */
typedef struct {
  const High *high;
  int64_t each;
  const int64_t *stoch, *actions;                        /* [states][S], [rows] */
  const float *context, *uniforms;                       /* [states][C], [rows][2 S] */
  float *logits;                                         /* [rows][S][K] of z[tau-1], or NULL */
  int64_t *before, *next_stoch;                          /* [rows][S] z[tau-1], coarse z[tau] */
  float *action, *next_context, *gates;                  /* [rows][A], [C], [C] */
  float *elapsed, *segment, *reward, *continuation;      /* [rows] */
} JumpRows;

/* Nodes of a search over jumps: all jumps of a state, and what a search makes of them. A row is a state; `lead` is that
 * of all its jumps together. */
typedef struct {
  JumpRows jump;                                         /* each: G; no actions of their own */
  const Chain *prior;                                    /* z, c -> logits of A */
  const float *arrival;                                  /* [rows] reward on arriving in the state */
  float *probability, *edge, *fade;                      /* [rows][G] of the prior; rewards; discounts */
  float *value;                                          /* [rows] the expected reward of one more jump */
} ExpandRows;

/* A convolution with stride 2 and no padding, channels last; a row is a pixel of the output. */
typedef struct {
  const Dense *dense;                                    /* reads [kernel][kernel][channels] */
  int64_t kernel, size, channels;                        /* of the input */
  const float *x;                                        /* [images][size][size][channels] */
  float *y;                                              /* [images][pixels][outputs, padded] */
} ConvolveRows;

/* The sum of what each pixel contributes to its neighbourhood: the second half of a transposed convolution. A row is an
 * image. */
typedef struct {
  int64_t kernel, size, channels, lead, elu;             /* of the input; channels of the output; floats of a pixel */
  const float *x;                                        /* [images][size²][lead]: [kernel][kernel][channels] */
  const float *bias;                                     /* [channels] */
  float *y;                                              /* [images][2 size + kernel - 2]²[channels] */
} UnfoldRows;

enum { EXP, TANH, SIGMOID, ELU };
typedef struct {
  int64_t function, width;
  const float *x;                                        /* [rows][width] */
  float *y;
} MapRows;

enum { CHAIN, STEP, SEARCH, GOAL, JUMP, EXPAND, CONVOLVE, UNFOLD, MAP, OPERATIONS };

/* `work` has BUFFERS · count rows of `lead` floats. */
typedef void Operation(const void *job, int64_t first, int64_t count, float *work, int64_t lead);

/* -- trees of a search over jumps ---------------------------------------------------------------------------------------- */

/* Nodes: a state's jumps and what a search makes of them, an array [nodes][bytes] for each part. */
enum { STOCH, CONTEXT, REWARD, ELAPSED, PRIOR, EDGE, FADE, VALUE, PARTS };
typedef struct {
  char *part[PARTS];
} Jumps;

typedef struct {
  int64_t *stoch;                                        /* [states][S] */
  float *context, *reward;                               /* [states][C], [states] */
} States;

#define WAYS 4 /* nodes of a set */

/* Nodes that were computed lately, by the bits of their states: each lies somewhere in one set of WAYS. */
typedef struct {
  int64_t sets;
  uint64_t *hash;                                        /* [sets][WAYS]; 0: nothing there */
  uint64_t *next;                                        /* [sets] which of it is the oldest */
  States states;
  Jumps nodes;
} Memo;

/* A tree for each session. Nodes are numbered by the simulation that found them, the root is 0; a place is session · room
 * + node, and an edge place · G + action. */
typedef struct {
  int64_t sessions, room, depth, actions, stoch, context;
  int64_t bytes[PARTS];                                  /* of a node */
  Jumps nodes;                                           /* [sessions][room] */
  double *prior, *mean, *logits;                         /* [edges]; mean return; of the prior, for Gumbel alone */
  int64_t *visits, *child;                               /* [edges]; the node that one leads to, -1 where none */
  int64_t *total, *came;                                 /* [places] visits; the edge that led there */
  double *lowest, *highest;                              /* [sessions] of all means */
  const int64_t *schedule;                               /* [room] of Gumbel's root; NULL selects by PUCT */
  const double *noise;                                   /* [sessions][G] */
  double *score;                                         /* [G] scratch */
  int64_t *way, *length, *end, *origin;                    /* [sessions][depth], [sessions]: of a simulation */
  int64_t ahead, guesses;                                /* states of a call; simulations that are supposed for it */
  int64_t *guess, *lengths;                              /* [guesses][depth], [guesses] */
  double *before;                                        /* [guesses][depth] */
  const ExpandRows *expand;                              /* from `asked` to `fresh`; [sessions + ahead] */
  ChainRows critic;                                      /* their values; no chain: those of `expand` */
  int64_t lead, tile;                                    /* floats of a row of its buffers; states at a time */
  States asked;
  uint64_t *hash;
  Jumps fresh;
} Trees;

/* Threads among which the calling one divides products of few rows; and how it does: `count` parts, independent of each
 * other, of a job of its own. */
int thick_split(void);
void thick_share(Operation *operation, const void *job, int64_t count);

/* Rounding and denormals as they must be, whatever the calling thread has set; and as it had them. */
uint64_t thick_set_floats(void);
void thick_restore_floats(uint64_t before);

int thick_run(int instructions, int operation, const void *job, int64_t first, int64_t count, int64_t lead, int64_t tile,
              int threads, const int64_t *ends);

extern Operation *const thick_scalar[OPERATIONS];
extern Operation *const thick_avx2[OPERATIONS];
extern Operation *const thick_avx512[OPERATIONS];

#endif
