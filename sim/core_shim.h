/* A simulated matmul core as a library: registers, streams and memory of one verilated MatmulCore.
 *
 * The host side of every channel is played by the library, with random stalls where asked for. Time passes only
 * inside core_step, core_run and the register accesses; streams and memory move meanwhile.
 */
#ifndef BITKILN_CORE_SHIM_H
#define BITKILN_CORE_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Channels, for core_stall. The master's channels exist in the variant with descriptors only. */
enum core_channel {
    CORE_AW, CORE_W, CORE_B, CORE_AR, CORE_R,                 /* AXI4-Lite */
    CORE_STREAM_A, CORE_STREAM_W, CORE_STREAM_C, CORE_OUT,    /* AXI4-Stream */
    CORE_M_AW, CORE_M_W, CORE_M_B, CORE_M_AR, CORE_M_R,       /* AXI4 master */
    CORE_CHANNELS
};

/* Input streams, for core_send. */
enum core_stream { CORE_A, CORE_WEIGHTS, CORE_C, CORE_STREAMS };

/* Why core_run came back. */
enum core_reason { CORE_RESULTS, CORE_IRQ, CORE_TIMEOUT };

#define CORE_DEAD (-1) /* instead of a response: none came */

void *core_new(uint64_t seed);
void core_free(void *core);
uint32_t core_bus_bytes(void);

/* Hold reset for some cycles; beats that wait on either side and unfinished bursts are forgotten. */
void core_reset(void *core, uint32_t cycles);
void core_step(void *core, uint64_t cycles);
uint64_t core_cycles(void *core);

/* The AXI response (0 OKAY, 2 SLVERR), or CORE_DEAD after `patience` cycles. */
int core_write32(void *core, uint32_t address, uint32_t value, uint32_t strobes, uint32_t patience);
int core_read32(void *core, uint32_t address, uint32_t *value, uint32_t patience);

/* Probability of a stall in each cycle, in 1/65536. */
void core_stall(void *core, int channel, uint32_t probability);

/* Queue beats (bus_bytes bytes each, last marks the final one), and how many still wait. */
void core_send(void *core, int stream, const uint8_t *beats, uint64_t count);
uint64_t core_waiting(void *core, int stream);

/* Results that arrived: how many, and take at most `most` of them. keep and last may be null. */
uint64_t core_arrived(void *core);
uint64_t core_take(void *core, uint8_t *beats, uint64_t *keep, uint8_t *last, uint64_t most);
void core_flush(void *core);

/* Run until `results` beats have arrived (0: do not watch them), the interrupt is high (`irq`), or nothing moved on
 * any stream or the master for `patience` cycles. */
int core_run(void *core, uint64_t results, int irq, uint64_t patience);
int core_irq(void *core);

/* Memory behind the master: addresses 0 to size - 1; elsewhere it answers SLVERR. */
void core_memory(void *core, uint64_t size);
int core_memory_write(void *core, uint64_t address, const uint8_t *data, uint64_t count);
int core_memory_read(void *core, uint64_t address, uint8_t *data, uint64_t count);

/* Broken rules of the protocols (valid dropped, payload changed, illegal burst): how many, and the first. */
uint64_t core_violations(void *core);
const char *core_first_violation(void *core);

#ifdef __cplusplus
}
#endif
#endif
