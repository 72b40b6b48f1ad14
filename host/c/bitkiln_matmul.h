/* Driver of the bitkiln matmul core: C99, freestanding, no allocation, no library.
 *
 * The core is reached through four functions of the application (struct bk_bus), so that the same code runs on a
 * soft processor beside the core, behind a serial line, or against a simulation. "matmul_registers.h" is the header
 * that `bitkiln generate` writes for the build at hand; what the build lacks is left out of the driver too.
 *
 * Matrices lie in memory row by row, each row packed tight (bk_pack_row), rows `stride` bytes apart: A is M x K,
 * W is N x K, C and the results are M x N. Padding to whole beats is done here.
 */
#ifndef BITKILN_MATMUL_H
#define BITKILN_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BK_MAX_BUS_BYTES 64u
#define BK_RECORD_BYTES 16u

/* 1 to 15 are the core's own codes (register ERROR). */
typedef enum bk_status {
    BK_OK = 0,
    BK_QUEUE_FULL = 1,
    BK_MODE = 2,
    BK_SHAPE = 3,
    BK_RULE = 4,
    BK_OUTPUT = 5,
    BK_BLOCK = 6,
    BK_FLAGS = 7,
    BK_ADDRESS = 8,
    BK_BUS = 9,
    BK_DESCRIPTOR = 10,
    BK_NOT_A_CORE = 16,  /* register ID is wrong */
    BK_VERSION = 17,     /* a register map that this driver does not know */
    BK_OTHER_BUILD = 18, /* not the build of matmul_registers.h */
    BK_ARGUMENT = 19,    /* a null pointer, or widths that do not fit the job */
    BK_TIMEOUT = 20
} bk_status;

typedef enum bk_stream { BK_A, BK_W, BK_C } bk_stream;

/* How the application reaches the core. send and receive move whole beats of `bus_bytes` bytes, as many as go without
 * waiting (0 is fine), and return how many. They are not used with cores that have a memory master. */
typedef struct bk_bus {
    void *context;
    uint32_t (*read32)(void *context, uint32_t address);
    void (*write32)(void *context, uint32_t address, uint32_t value);
    uint32_t (*send)(void *context, bk_stream stream, const uint8_t *beats, uint32_t count);
    uint32_t (*receive)(void *context, uint8_t *beats, uint32_t count);
} bk_bus;

/* A core, filled by bk_init. */
typedef struct bk_core {
    const bk_bus *bus;
    uint32_t rows, columns, queue, k_words, bus_bytes, raw_bits;
} bk_core;

/* One job. Numbers of formats are those of matmul_registers.h (MATMUL_JOB_MODE_MODE_INT8, ...). */
typedef struct bk_job {
    uint8_t mode, output, block; /* block: 0 none */
    uint8_t rule;                /* MATMUL_JOB_FLAGS_RULE_RAW, ... */
    uint8_t order;               /* MATMUL_JOB_FLAGS_ORDER_A or _W; bk_best_order chooses */
    bool per_channel, bias, accumulate, clamp;
    uint32_t m, k, n;
    uint32_t scale;              /* multiplier, or a float32's bits */
    uint8_t shift, bias_shift;
    int16_t zero_point;
    uint32_t clamp_low, clamp_high;
    uint16_t tag;
    /* Widths of the formats chosen above: elements of A, of W and of a result, and elements that share a scale. */
    uint8_t a_bits, w_bits;
    uint16_t result_bits, block_size;
} bk_job;

/* A matrix in memory. */
typedef struct bk_rows {
    const uint8_t *data;
    size_t stride;
} bk_rows;

/* What a job reads and writes (cores with streams). Parts that the job does not use are ignored. */
typedef struct bk_operands {
    bk_rows a, w;
    bk_rows a_scales, w_scales; /* one byte for each block of a row */
    bk_rows c;                  /* raw results of an earlier job */
    const uint8_t *records;     /* BK_RECORD_BYTES for each column, see bk_pack_record */
    uint8_t *results;
    size_t result_stride;
} bk_operands;

/* Where a job's parts lie in the memory that the core's master reaches. */
typedef struct bk_memory {
    uint64_t a, w, a_scales, w_scales, records, c, results;
    uint32_t a_stride, w_stride, a_scale_stride, w_scale_stride, c_stride, result_stride;
} bk_memory;

typedef struct bk_counts {
    uint64_t cycles, compute, stall_a, stall_w, stall_drain, stall_c, stall_out, macs;
} bk_counts;

/* Find out what core this is, and clear its error and events. */
bk_status bk_init(bk_core *core, const bk_bus *bus);

/* What the core would say about a job, as far as the host can know. */
bk_status bk_job_check(const bk_core *core, const bk_job *job);

/* The order of tiles that streams fewer operand beats. */
uint8_t bk_best_order(const bk_core *core, const bk_job *job);

/* Start a job (or queue it behind a running one). */
bk_status bk_start(const bk_core *core, const bk_job *job);

/* Start a job of a core with a memory master; BK_ARGUMENT on others. */
bk_status bk_start_memory(const bk_core *core, const bk_job *job, const bk_memory *memory);

/* Feed a started job and collect its results; ends after `patience` rounds in which nothing moved. */
bk_status bk_transfer(const bk_core *core, const bk_job *job, const bk_operands *operands, uint32_t patience);

/* Wait until no job is left, by polling at most `polls` times. */
bk_status bk_wait(const bk_core *core, uint32_t polls);

/* End the running job, drop those that wait, and clear error and events. The application stops its streams first, and
 * afterwards throws away what they still hold; result beats that come meanwhile are taken and thrown away here. */
bk_status bk_abort(const bk_core *core, uint32_t polls);

/* The core's error (BK_OK: none), which is cleared; the job's tag to *tag unless null. */
bk_status bk_error(const bk_core *core, uint16_t *tag);

/* Events since the last call (bits of register IRQ), which are cleared. */
uint32_t bk_events(const bk_core *core);

/* All zero where the build has no counters. */
void bk_counters(const bk_core *core, bk_counts *counts);
void bk_clear_counters(const bk_core *core);
const char *bk_error_string(bk_status status);

/* Rows. bits: 4, 8, 16 or 32; the first element lies in the low bits. */
size_t bk_row_bytes(uint32_t elements, uint32_t bits);
uint32_t bk_row_beats(const bk_core *core, uint32_t elements, uint32_t bits);
void bk_pack_row(uint8_t *row, const uint32_t *codes, uint32_t elements, uint32_t bits);
void bk_unpack_row(uint32_t *codes, const uint8_t *row, uint32_t elements, uint32_t bits);
void bk_pack_record(uint8_t *record, int32_t bias, uint32_t scale, uint8_t shift);

#endif
