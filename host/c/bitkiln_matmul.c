#include "bitkiln_matmul.h"

#include "matmul_registers.h"

/* The value of a field in its register's place. */
#define FIELD(name, value) (((uint32_t)(value) << name##_SHIFT) & name##_MASK)
#define GET(name, word) (((word) & name##_MASK) >> name##_SHIFT)

static uint32_t read32(const bk_core *core, uint32_t address) {
    return core->bus->read32(core->bus->context, address);
}

static void write32(const bk_core *core, uint32_t address, uint32_t value) {
    core->bus->write32(core->bus->context, address, value);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t tiles(uint32_t lines, uint32_t height) { return (lines + height - 1) / height; }

/* ---- Rows ---------------------------------------------------------------------------------- */

size_t bk_row_bytes(uint32_t elements, uint32_t bits) { return ((size_t)elements * bits + 7) / 8; }

static uint32_t beats_of(const bk_core *core, size_t bytes) {
    return (uint32_t)((bytes + core->bus_bytes - 1) / core->bus_bytes);
}

uint32_t bk_row_beats(const bk_core *core, uint32_t elements, uint32_t bits) {
    return beats_of(core, bk_row_bytes(elements, bits));
}

void bk_pack_row(uint8_t *row, const uint32_t *codes, uint32_t elements, uint32_t bits) {
    uint32_t at, byte;

    if (bits == 4) {
        for (at = 0; at < elements; at += 2) {
            const uint32_t high = at + 1 < elements ? codes[at + 1] & 15u : 0;
            row[at / 2] = (uint8_t)((codes[at] & 15u) | high << 4);
        }
        return;
    }
    for (at = 0; at < elements; ++at)
        for (byte = 0; byte < bits / 8; ++byte) *row++ = (uint8_t)(codes[at] >> 8 * byte);
}

void bk_unpack_row(uint32_t *codes, const uint8_t *row, uint32_t elements, uint32_t bits) {
    uint32_t at, byte;

    for (at = 0; at < elements; ++at) {
        if (bits == 4) {
            codes[at] = (uint32_t)(row[at / 2] >> (at & 1u) * 4) & 15u;
            continue;
        }
        codes[at] = 0;
        for (byte = 0; byte < bits / 8; ++byte) codes[at] |= (uint32_t)*row++ << 8 * byte;
    }
}

void bk_pack_record(uint8_t *record, int32_t bias, uint32_t scale, uint8_t shift) {
    uint32_t byte;

    for (byte = 0; byte < 4; ++byte) {
        record[byte] = (uint8_t)((uint32_t)bias >> 8 * byte);
        record[4 + byte] = (uint8_t)(scale >> 8 * byte);
        record[8 + byte] = record[12 + byte] = 0;
    }
    record[8] = shift;
}

/* ---- Control ------------------------------------------------------------------------------- */

bk_status bk_init(bk_core *core, const bk_bus *bus) {
    const uint32_t features =
        FIELD(MATMUL_FEATURES_RAW, MATMUL_FEATURES_RAW_VALUE) |
        FIELD(MATMUL_FEATURES_INTEGER, MATMUL_FEATURES_INTEGER_VALUE) |
        FIELD(MATMUL_FEATURES_FLOAT, MATMUL_FEATURES_FLOAT_VALUE) |
        FIELD(MATMUL_FEATURES_BIAS, MATMUL_FEATURES_BIAS_VALUE) |
        FIELD(MATMUL_FEATURES_ACCUMULATE, MATMUL_FEATURES_ACCUMULATE_VALUE) |
        FIELD(MATMUL_FEATURES_BLOCK, MATMUL_FEATURES_BLOCK_VALUE) |
        FIELD(MATMUL_FEATURES_DESCRIPTORS, MATMUL_FEATURES_DESCRIPTORS_VALUE) |
        FIELD(MATMUL_FEATURES_FP32_SUMS, MATMUL_FEATURES_FP32_SUMS_VALUE) |
        FIELD(MATMUL_FEATURES_INT32_SUMS, MATMUL_FEATURES_INT32_SUMS_VALUE);
    uint32_t shape, limits;

    if (!core || !bus || !bus->read32 || !bus->write32) return BK_ARGUMENT;
    core->bus = bus;
    if (read32(core, MATMUL_ID_OFFSET) != MATMUL_ID_VALUE) return BK_NOT_A_CORE;
    if (GET(MATMUL_VERSION_MAJOR, read32(core, MATMUL_VERSION_OFFSET)) != MATMUL_VERSION_MAJOR_VALUE)
        return BK_VERSION;
    shape = read32(core, MATMUL_SHAPE_OFFSET);
    limits = read32(core, MATMUL_LIMITS_OFFSET);
    core->rows = GET(MATMUL_SHAPE_ROWS, shape);
    core->columns = GET(MATMUL_SHAPE_COLUMNS, shape);
    core->queue = GET(MATMUL_SHAPE_QUEUE, shape);
    core->k_words = GET(MATMUL_LIMITS_K_WORDS, limits);
    core->bus_bytes = (1u << GET(MATMUL_LIMITS_BUS_LOG2, limits)) / 8;
    core->raw_bits = 1u << GET(MATMUL_LIMITS_RAW_LOG2, limits);
    /* Numbers of modes and outputs, and which registers exist, are those of the header only in this build. */
    if (core->rows != MATMUL_SHAPE_ROWS_VALUE || core->columns != MATMUL_SHAPE_COLUMNS_VALUE ||
        core->k_words != MATMUL_LIMITS_K_WORDS_VALUE || core->bus_bytes > BK_MAX_BUS_BYTES ||
        GET(MATMUL_LIMITS_BUS_LOG2, limits) != MATMUL_LIMITS_BUS_LOG2_VALUE ||
        GET(MATMUL_LIMITS_RAW_LOG2, limits) != MATMUL_LIMITS_RAW_LOG2_VALUE ||
        GET(MATMUL_LIMITS_MODE_COUNT, limits) != MATMUL_LIMITS_MODE_COUNT_VALUE ||
        GET(MATMUL_LIMITS_OUTPUT_COUNT, limits) != MATMUL_LIMITS_OUTPUT_COUNT_VALUE ||
        read32(core, MATMUL_FEATURES_OFFSET) != features)
        return BK_OTHER_BUILD;
    write32(core, MATMUL_ERROR_OFFSET, 0);
    (void)bk_events(core);
    return BK_OK;
}

bk_status bk_error(const bk_core *core, uint16_t *tag) {
    const uint32_t error = read32(core, MATMUL_ERROR_OFFSET);

    if (tag) *tag = (uint16_t)GET(MATMUL_ERROR_TAG, error);
    if (GET(MATMUL_ERROR_CODE, error)) write32(core, MATMUL_ERROR_OFFSET, 0);
    return (bk_status)GET(MATMUL_ERROR_CODE, error);
}

uint32_t bk_events(const bk_core *core) {
    const uint32_t events = read32(core, MATMUL_IRQ_OFFSET);

    write32(core, MATMUL_IRQ_OFFSET, events);
    return events;
}

bk_status bk_job_check(const bk_core *core, const bk_job *job) {
    if (!core || !job) return BK_ARGUMENT;
    if (job->mode >= MATMUL_LIMITS_MODE_COUNT_VALUE) return BK_MODE;
    if (!job->m || !job->k || !job->n || job->m > 65535u || job->k > 65535u || job->n > 65535u) return BK_SHAPE;
    if (job->a_bits != 4 && job->a_bits != 8 && job->a_bits != 16) return BK_ARGUMENT;
    if (job->w_bits != 4 && job->w_bits != 8 && job->w_bits != 16) return BK_ARGUMENT;
    if (job->k * job->a_bits > core->k_words * 16u) return BK_SHAPE;
    switch (job->rule) {
    case 0:
        if (!MATMUL_FEATURES_RAW_VALUE) return BK_RULE;
        if (job->result_bits != core->raw_bits) return BK_ARGUMENT;
        break;
    case 1:
        if (!MATMUL_FEATURES_INTEGER_VALUE) return BK_RULE;
        if (!job->per_channel && job->scale >> 31) return BK_RULE;
        break;
    case 2:
        if (!MATMUL_FEATURES_FLOAT_VALUE) return BK_RULE;
        break;
    default:
        return BK_RULE;
    }
    /* + 1: a build may have no output format, and an unsigned number is never below 0. */
    if (job->rule && job->output + 1u > MATMUL_LIMITS_OUTPUT_COUNT_VALUE) return BK_OUTPUT;
    if (job->rule && job->result_bits != 4 && job->result_bits != 8 && job->result_bits != 16 &&
        job->result_bits != 32)
        return BK_ARGUMENT;
    if (job->block && (!MATMUL_FEATURES_BLOCK_VALUE || !job->block_size)) return BK_BLOCK;
    if (job->bias && (!MATMUL_FEATURES_BIAS_VALUE || !job->per_channel)) return BK_FLAGS;
    if (job->accumulate && !MATMUL_FEATURES_ACCUMULATE_VALUE) return BK_FLAGS;
    return BK_OK;
}

/* Scales of one row. */
static uint32_t blocks_of(const bk_job *job) {
    return job->block && job->block_size ? tiles(job->k, job->block_size) : 0;
}

uint8_t bk_best_order(const bk_core *core, const bk_job *job) {
    const uint32_t scale = bk_row_beats(core, blocks_of(job), 8);
    const uint32_t record = job->per_channel ? beats_of(core, BK_RECORD_BYTES) : 0;
    const uint64_t a = (uint64_t)job->m * (bk_row_beats(core, job->k, job->a_bits) + scale);
    const uint64_t w = (uint64_t)job->n * (bk_row_beats(core, job->k, job->w_bits) + scale + record);

    return a * tiles(job->n, core->columns) + w < a + w * tiles(job->m, core->rows);
}

static bk_status configure(const bk_core *core, const bk_job *job) {
    const bk_status status = bk_job_check(core, job);
    const uint32_t state = read32(core, MATMUL_STATUS_OFFSET);
    uint32_t word;

    if (status != BK_OK) return status;
    if (state & MATMUL_STATUS_ERROR_MASK) return bk_error(core, NULL);
    if (state & MATMUL_STATUS_QUEUE_FULL_MASK) return BK_QUEUE_FULL;
    word = FIELD(MATMUL_JOB_MODE_MODE, job->mode);
#ifdef MATMUL_JOB_MODE_OUTPUT_SHIFT
    if (job->rule) word |= FIELD(MATMUL_JOB_MODE_OUTPUT, job->output);
#endif
#ifdef MATMUL_JOB_MODE_BLOCK_SHIFT
    word |= FIELD(MATMUL_JOB_MODE_BLOCK, job->block);
#endif
    write32(core, MATMUL_JOB_MODE_OFFSET, word);
    write32(core, MATMUL_JOB_M_OFFSET, job->m);
    write32(core, MATMUL_JOB_K_OFFSET, job->k);
    write32(core, MATMUL_JOB_N_OFFSET, job->n);
    word = FIELD(MATMUL_JOB_FLAGS_RULE, job->rule) | FIELD(MATMUL_JOB_FLAGS_ORDER, job->order);
#ifdef MATMUL_JOB_FLAGS_PER_CHANNEL_SHIFT
    word |= FIELD(MATMUL_JOB_FLAGS_PER_CHANNEL, job->per_channel);
#endif
#ifdef MATMUL_JOB_FLAGS_BIAS_SHIFT
    word |= FIELD(MATMUL_JOB_FLAGS_BIAS, job->bias);
#endif
#ifdef MATMUL_JOB_FLAGS_ACCUMULATE_SHIFT
    word |= FIELD(MATMUL_JOB_FLAGS_ACCUMULATE, job->accumulate);
#endif
#ifdef MATMUL_JOB_FLAGS_CLAMP_SHIFT
    word |= FIELD(MATMUL_JOB_FLAGS_CLAMP, job->clamp);
#endif
    write32(core, MATMUL_JOB_FLAGS_OFFSET, word);
#ifdef MATMUL_JOB_SCALE_OFFSET
    write32(core, MATMUL_JOB_SCALE_OFFSET, job->scale);
    write32(core, MATMUL_JOB_ZERO_OFFSET, FIELD(MATMUL_JOB_ZERO, (uint16_t)job->zero_point));
    write32(core, MATMUL_JOB_CLAMP_LOW_OFFSET, job->clamp_low);
    write32(core, MATMUL_JOB_CLAMP_HIGH_OFFSET, job->clamp_high);
#endif
#ifdef MATMUL_JOB_SHIFT_OFFSET
    word = 0;
#ifdef MATMUL_JOB_SHIFT_SHIFT_SHIFT
    word |= FIELD(MATMUL_JOB_SHIFT_SHIFT, job->shift);
#endif
#ifdef MATMUL_JOB_SHIFT_BIAS_SHIFT_SHIFT
    word |= FIELD(MATMUL_JOB_SHIFT_BIAS_SHIFT, job->bias_shift);
#endif
    write32(core, MATMUL_JOB_SHIFT_OFFSET, word);
#endif
    write32(core, MATMUL_JOB_TAG_OFFSET, job->tag);
    return BK_OK;
}

static bk_status start(const bk_core *core) {
    write32(core, MATMUL_CTRL_OFFSET, MATMUL_CTRL_START_MASK);
    if (read32(core, MATMUL_STATUS_OFFSET) & MATMUL_STATUS_ERROR_MASK) return bk_error(core, NULL);
    return BK_OK;
}

bk_status bk_start(const bk_core *core, const bk_job *job) {
    const bk_status status = configure(core, job);

    return status == BK_OK ? start(core) : status;
}

#ifdef MATMUL_A_ADDR_OFFSET
static void place(const bk_core *core, uint32_t offset, uint64_t address) {
    write32(core, offset, (uint32_t)address);
#ifdef MATMUL_A_ADDR_HI_OFFSET
    write32(core, offset + 4, (uint32_t)(address >> 32));
#endif
}

bk_status bk_start_memory(const bk_core *core, const bk_job *job, const bk_memory *memory) {
    const bk_status status = memory ? configure(core, job) : BK_ARGUMENT;

    if (status != BK_OK) return status;
    place(core, MATMUL_A_ADDR_OFFSET, memory->a);
    write32(core, MATMUL_A_STRIDE_OFFSET, memory->a_stride);
    place(core, MATMUL_W_ADDR_OFFSET, memory->w);
    write32(core, MATMUL_W_STRIDE_OFFSET, memory->w_stride);
#ifdef MATMUL_A_SCALE_ADDR_OFFSET
    place(core, MATMUL_A_SCALE_ADDR_OFFSET, memory->a_scales);
    write32(core, MATMUL_A_SCALE_STRIDE_OFFSET, memory->a_scale_stride);
    place(core, MATMUL_W_SCALE_ADDR_OFFSET, memory->w_scales);
    write32(core, MATMUL_W_SCALE_STRIDE_OFFSET, memory->w_scale_stride);
#endif
#ifdef MATMUL_RECORD_ADDR_OFFSET
    place(core, MATMUL_RECORD_ADDR_OFFSET, memory->records);
#endif
#ifdef MATMUL_C_ADDR_OFFSET
    place(core, MATMUL_C_ADDR_OFFSET, memory->c);
    write32(core, MATMUL_C_STRIDE_OFFSET, memory->c_stride);
#endif
    place(core, MATMUL_O_ADDR_OFFSET, memory->results);
    write32(core, MATMUL_O_STRIDE_OFFSET, memory->result_stride);
    return start(core);
}
#else
bk_status bk_start_memory(const bk_core *core, const bk_job *job, const bk_memory *memory) {
    (void)core;
    (void)job;
    (void)memory;
    return BK_ARGUMENT;
}
#endif

bk_status bk_wait(const bk_core *core, uint32_t polls) {
    while (polls--) {
        const uint32_t state = read32(core, MATMUL_STATUS_OFFSET);

        if (state & MATMUL_STATUS_ERROR_MASK) return bk_error(core, NULL);
        if (!(state & (MATMUL_STATUS_BUSY_MASK | MATMUL_STATUS_ABORTING_MASK))) return BK_OK;
    }
    return BK_TIMEOUT;
}

bk_status bk_abort(const bk_core *core, uint32_t polls) {
    uint8_t beat[BK_MAX_BUS_BYTES];

    write32(core, MATMUL_CTRL_OFFSET, MATMUL_CTRL_ABORT_MASK);
    while (polls--) {
        if (!(read32(core, MATMUL_STATUS_OFFSET) & (MATMUL_STATUS_BUSY_MASK | MATMUL_STATUS_ABORTING_MASK))) {
            /* What went wrong with the dropped jobs is not the next one's error. */
            write32(core, MATMUL_ERROR_OFFSET, 0);
            (void)bk_events(core);
            return BK_OK;
        }
        /* The core is not done before the beat that waits at its output has gone. */
        if (core->bus->receive) (void)core->bus->receive(core->bus->context, beat, 1);
    }
    return BK_TIMEOUT;
}

#ifdef MATMUL_CYCLES_OFFSET
/* The upper half is read twice: the lower one may wrap between the reads. */
static uint64_t counter(const bk_core *core, uint32_t offset) {
    uint32_t high, low, again = read32(core, offset + 4);

    do {
        high = again;
        low = read32(core, offset);
        again = read32(core, offset + 4);
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

void bk_counters(const bk_core *core, bk_counts *counts) {
    counts->cycles = counter(core, MATMUL_CYCLES_OFFSET);
    counts->compute = counter(core, MATMUL_COMPUTE_OFFSET);
    counts->stall_a = counter(core, MATMUL_STALL_A_OFFSET);
    counts->stall_w = counter(core, MATMUL_STALL_W_OFFSET);
    counts->stall_drain = counter(core, MATMUL_STALL_DRAIN_OFFSET);
#ifdef MATMUL_STALL_C_OFFSET
    counts->stall_c = counter(core, MATMUL_STALL_C_OFFSET);
#else
    counts->stall_c = 0;
#endif
    counts->stall_out = counter(core, MATMUL_STALL_OUT_OFFSET);
    counts->macs = counter(core, MATMUL_MACS_OFFSET);
}
#else
void bk_counters(const bk_core *core, bk_counts *counts) {
    (void)core;
    counts->cycles = counts->compute = counts->stall_a = counts->stall_w = counts->stall_drain = 0;
    counts->stall_c = counts->stall_out = counts->macs = 0;
}
#endif

void bk_clear_counters(const bk_core *core) {
    write32(core, MATMUL_CTRL_OFFSET, MATMUL_CTRL_CLEAR_COUNTERS_MASK);
}

const char *bk_error_string(bk_status status) {
    switch (status) {
    case BK_OK: return "no error";
    case BK_QUEUE_FULL: return "a job was started while the queue was full";
    case BK_MODE: return "the core has no such mode";
    case BK_SHAPE: return "M, K or N is zero, or K is longer than an operand tile or the accumulator holds";
    case BK_RULE: return "the core has no such output rule, or it does not apply to these sums";
    case BK_OUTPUT: return "the core has no such output format, or the rule cannot produce it";
    case BK_BLOCK: return "the core has no such block format, or the mode is not its element";
    case BK_FLAGS: return "the core was built without bias or accumulate, or the flags contradict each other";
    case BK_ADDRESS: return "an address or a stride is not aligned";
    case BK_BUS: return "the memory answered with an error";
    case BK_DESCRIPTOR: return "a descriptor is not aligned or cannot be read";
    case BK_NOT_A_CORE: return "there is no matmul core at this address";
    case BK_VERSION: return "the register map is of another major version";
    case BK_OTHER_BUILD: return "the core is not the build of matmul_registers.h";
    case BK_ARGUMENT: return "an argument is missing or does not fit the job";
    case BK_TIMEOUT: return "the core does not go on";
    }
    return "unknown error";
}

/* ---- Streams ------------------------------------------------------------------------------- */

/* One kind of line in a panel: records, scales or data. */
typedef struct part {
    const uint8_t *data;
    size_t stride, bytes; /* bytes of data in a line; the rest of its last beat is zero */
} part;

/* Panels of one operand: `passes` times all lines, `height` lines a panel, in each panel part after part. */
typedef struct feed {
    part parts[3];
    uint32_t count, lines, height, passes;
    uint32_t base, at, line, beat; /* first line of the panel, part, line in the panel, beat of the line */
} feed;

static void add_part(feed *f, const uint8_t *data, size_t stride, size_t bytes) {
    f->parts[f->count].data = data;
    f->parts[f->count].stride = stride;
    f->parts[f->count].bytes = bytes;
    ++f->count;
}

/* Beats of `bytes` bytes at `data`, from number `beat` on: those that are whole in one piece, else the last one filled
 * up in `tail`. */
static const uint8_t *piece(const bk_core *core, const uint8_t *data, size_t bytes, uint32_t beat, uint8_t *tail,
                            uint32_t *count) {
    const uint32_t whole = (uint32_t)(bytes / core->bus_bytes);
    size_t at = (size_t)beat * core->bus_bytes;
    uint32_t byte;

    if (beat < whole) {
        *count = whole - beat;
        return data + at;
    }
    for (byte = 0; byte < core->bus_bytes; ++byte, ++at) tail[byte] = at < bytes ? data[at] : 0;
    *count = 1;
    return tail;
}

/* Send what goes without waiting; whether anything did. */
static bool pump(const bk_core *core, feed *f, bk_stream stream) {
    uint8_t tail[BK_MAX_BUS_BYTES];
    bool moved = false;

    while (f->passes) {
        const part *p = &f->parts[f->at];
        uint32_t count, sent;
        const uint8_t *beats = piece(core, p->data + (size_t)(f->base + f->line) * p->stride, p->bytes, f->beat, tail,
                                     &count);

        sent = core->bus->send(core->bus->context, stream, beats, count);
        moved = moved || sent;
        f->beat += sent;
        if (sent < count) return moved;
        if (f->beat < beats_of(core, p->bytes)) continue;
        f->beat = 0;
        if (++f->line < least(f->height, f->lines - f->base)) continue;
        f->line = 0;
        if (++f->at < f->count) continue;
        f->at = 0;
        f->base += f->height;
        if (f->base < f->lines) continue;
        f->base = 0;
        --f->passes;
    }
    return moved;
}

/* Rows of result tiles in the job's order, for the results and for C. */
typedef struct walk {
    uint32_t row, column; /* first row and column of the tile */
    uint32_t line, beat;
    bool done;
} walk;

/* To the next row; sets done after the last one of the job. */
static void step(const bk_core *core, const bk_job *job, walk *at) {
    at->beat = 0;
    if (++at->line < least(core->rows, job->m - at->row)) return;
    at->line = 0;
    if (job->order == MATMUL_JOB_FLAGS_ORDER_A) {
        at->column += core->columns;
        if (at->column < job->n) return;
        at->column = 0;
        at->row += core->rows;
        at->done = at->row >= job->m;
    } else {
        at->row += core->rows;
        if (at->row < job->m) return;
        at->row = 0;
        at->column += core->columns;
        at->done = at->column >= job->n;
    }
}

static bool pump_c(const bk_core *core, const bk_job *job, const bk_rows *c, walk *at) {
    const uint32_t element = core->raw_bits / 8;
    uint8_t tail[BK_MAX_BUS_BYTES];
    bool moved = false;

    while (!at->done) {
        const size_t bytes = (size_t)least(core->columns, job->n - at->column) * element;
        const uint8_t *row = c->data + (size_t)(at->row + at->line) * c->stride + (size_t)at->column * element;
        uint32_t count, sent;
        const uint8_t *beats = piece(core, row, bytes, at->beat, tail, &count);

        sent = core->bus->send(core->bus->context, BK_C, beats, count);
        moved = moved || sent;
        at->beat += sent;
        if (sent < count) return moved;
        if (at->beat >= beats_of(core, bytes)) step(core, job, at);
    }
    return moved;
}

/* Elements of a tile's row into the whole row. Only 4-bit elements can begin inside a byte. */
static void store(uint8_t *row, uint32_t nibble, const uint8_t *data, uint32_t nibbles) {
    uint32_t at;

    for (at = 0; at < nibbles; ++at, ++nibble) {
        const uint32_t value = (uint32_t)(data[at / 2] >> (at & 1u) * 4) & 15u;

        if (nibble & 1u)
            row[nibble / 2] = (uint8_t)((row[nibble / 2] & 15u) | value << 4);
        else
            row[nibble / 2] = (uint8_t)value;
    }
}

static bool collect(const bk_core *core, const bk_job *job, const bk_operands *operands, walk *at) {
    const uint32_t per_element = job->result_bits / 4, per_beat = core->bus_bytes * 2;
    uint8_t beat[BK_MAX_BUS_BYTES];
    bool moved = false;

    while (!at->done) {
        const uint32_t nibbles = least(core->columns, job->n - at->column) * per_element;
        const uint32_t before = at->beat * per_beat;
        uint8_t *row = operands->results + (size_t)(at->row + at->line) * operands->result_stride;

        if (!core->bus->receive(core->bus->context, beat, 1)) return moved;
        moved = true;
        store(row, at->column * per_element + before, beat, least(per_beat, nibbles - before));
        if (++at->beat * per_beat >= nibbles) step(core, job, at);
    }
    return moved;
}

bk_status bk_transfer(const bk_core *core, const bk_job *job, const bk_operands *operands, uint32_t patience) {
    const uint32_t blocks = blocks_of(job);
    const bool rows_outside = job->order == MATMUL_JOB_FLAGS_ORDER_A;
    feed a = {0}, w = {0};
    walk c = {0}, results = {0};
    uint32_t idle = 0;

    if (!core->bus->send || !core->bus->receive || !operands || !operands->a.data || !operands->w.data ||
        !operands->results || (job->accumulate && !operands->c.data) || (job->per_channel && !operands->records) ||
        (blocks && (!operands->a_scales.data || !operands->w_scales.data)))
        return BK_ARGUMENT;
    a.lines = job->m;
    a.height = core->rows;
    a.passes = rows_outside ? 1 : tiles(job->n, core->columns);
    w.lines = job->n;
    w.height = core->columns;
    w.passes = rows_outside ? tiles(job->m, core->rows) : 1;
    if (job->per_channel) add_part(&w, operands->records, BK_RECORD_BYTES, BK_RECORD_BYTES);
    if (blocks) {
        add_part(&a, operands->a_scales.data, operands->a_scales.stride, blocks);
        add_part(&w, operands->w_scales.data, operands->w_scales.stride, blocks);
    }
    add_part(&a, operands->a.data, operands->a.stride, bk_row_bytes(job->k, job->a_bits));
    add_part(&w, operands->w.data, operands->w.stride, bk_row_bytes(job->k, job->w_bits));
    c.done = !job->accumulate;
    while (!results.done) {
        bool moved = pump(core, &a, BK_A);

        moved = pump(core, &w, BK_W) || moved;
        moved = pump_c(core, job, &operands->c, &c) || moved;
        moved = collect(core, job, operands, &results) || moved;
        if (moved) {
            idle = 0;
        } else {
            if (read32(core, MATMUL_STATUS_OFFSET) & MATMUL_STATUS_ERROR_MASK) return bk_error(core, NULL);
            if (idle++ == patience) return BK_TIMEOUT;
        }
    }
    return BK_OK;
}
