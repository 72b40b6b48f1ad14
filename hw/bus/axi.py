"""AXI4: the bus, a read port that several readers share, and a writer of rows at any byte address.

Every transaction is an incrementing burst that ends at the latest where the next ``burst`` beats of memory begin, so
none crosses 4 KiB. All carry identifier 0: responses come in order.

::

    request_<name> ──► [room for its beats?] ──► turn ──► ar         r ──► queue of <name> ──► data_<name>
                                  └────────────► who is next ────────┘

A burst is requested only when its reader's queue has room for it, so the r channel never waits and no reader can
block another.
"""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from .axistream import beat_layout

__all__ = ["Axi4", "BurstSplitter", "ReadPort", "RowWriter", "burst_layout", "row_layout",
           "run_layout"]

INCR = 1
CACHE = 0b0011   # normal memory, not cacheable, bufferable
BOUNDARY = 4096
FAILED = 1       # bit of SLVERR and DECERR


class Axi4(wiring.Signature):
    """AXI4, seen by the master.

    Parameters
    ----------
    address_bits, data_bits : int
        Byte addresses; data of 32, 64, ... 1024 bits.

    Members
    -------
    The channels aw, w, b, ar and r by their names in the AXI specification, with identifiers of one bit, and without
    lock, qos, region and user.
    """

    def __init__(self, address_bits: int, data_bits: int):
        self.address_bits, self.data_bits = address_bits, data_bits

        def address(kind: str) -> dict[str, wiring.Member]:
            return {f"a{kind}{name}": Out(bits) for name, bits in {
                "id": 1, "addr": address_bits, "len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3,
                "valid": 1}.items()} | {f"a{kind}ready": In(1)}

        super().__init__({
            **address("w"),
            "wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **address("r"),
            "rid": In(1), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axi4) and (self.address_bits, self.data_bits) == (other.address_bits, other.data_bits)

    def __repr__(self) -> str:
        return f"Axi4({self.address_bits}, {self.data_bits})"


def _check_burst(burst: int, data_bits: int) -> None:
    assert burst & (burst - 1) == 0 and 2 <= burst <= 256 and burst * data_bits // 8 <= BOUNDARY


def _log2(number: int) -> int:
    return number.bit_length() - 1


def burst_layout(address_bits: int, data_bits: int, burst: int) -> data.StructLayout:
    """A burst: ``address`` of its first beat in beats, ``last``: number of beats less one."""
    return data.StructLayout({"address": address_bits - _log2(data_bits // 8), "last": _log2(burst)})


def run_layout(address_bits: int, data_bits: int, longest: int) -> data.StructLayout:
    """Beats in a row: ``address`` of the first in beats, and their number ``beats``, 1 to ``longest``."""
    return data.StructLayout({"address": address_bits - _log2(data_bits // 8), "beats": longest.bit_length()})


def row_layout(address_bits: int, longest: int) -> data.StructLayout:
    """A row to be written: byte ``address``, ``beats`` in which its data come (1 to ``longest``), and whether it is a
    job's ``last``."""
    return data.StructLayout({"address": address_bits, "beats": longest.bit_length(), "last": 1})


class BurstSplitter(wiring.Component):
    """Cuts runs of beats into bursts that end at multiples of ``burst`` beats. One burst each cycle.

    Parameters
    ----------
    address_bits, data_bits : int
    longest : int
        Run in beats.
    burst : int
        Longest burst, a power of two.

    Members
    -------
    i : In(stream of `run_layout`)
    o : Out(stream of `burst_layout`)
    """

    def __init__(self, address_bits: int, data_bits: int, longest: int, *, burst: int = 16):
        _check_burst(burst, data_bits)
        self.burst = burst
        self.run = run_layout(address_bits, data_bits, longest)
        super().__init__({"i": In(stream.Signature(self.run)),
                          "o": Out(stream.Signature(burst_layout(address_bits, data_bits, burst)))})

    def elaborate(self, platform) -> Module:
        m = Module()
        run, held = Signal(self.run, reset_less=True), Signal()
        low = _log2(self.burst)
        room = self.burst - 1 - run.address[:low]   # beats to the boundary, less one
        ends = run.beats <= room + 1
        take = self.o.valid & self.o.ready
        m.d.comb += [self.o.valid.eq(held), self.o.payload.address.eq(run.address),
                     self.o.payload.last.eq(Mux(ends, run.beats - 1, room)),
                     self.i.ready.eq(~held | (take & ends))]
        with m.If(take):
            m.d.sync += [run.address.eq(Cat(Const(0, low), run.address[low:] + 1)), run.beats.eq(run.beats - room - 1),
                         held.eq(~ends)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [run.eq(self.i.payload), held.eq(1)]
        return m


class _Queue(wiring.Component):
    """A queue in block memory that is never asked to hold more than it can: the writer keeps count.

    Members
    -------
    write : In(1), i : In(width)
    o : Out(stream of width)
    """

    def __init__(self, width: int, depth: int):
        self.width, self.depth = width, depth
        super().__init__({"write": In(1), "i": In(width), "o": Out(stream.Signature(width))})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        # One bit more than an address, to tell a full queue from an empty one.
        write_at, read_at = Signal(range(2 * self.depth)), Signal(range(2 * self.depth))
        fetch = (write_at != read_at) & (~self.o.valid | self.o.ready)
        m.d.comb += [write.addr.eq(write_at), write.data.eq(self.i), write.en.eq(self.write),
                     read.addr.eq(read_at), read.en.eq(fetch), self.o.payload.eq(read.data)]
        m.d.sync += [write_at.eq(write_at + self.write), read_at.eq(read_at + fetch),
                     self.o.valid.eq(fetch | (self.o.valid & ~self.o.ready))]
        return m


class ReadPort(wiring.Component):
    """The ar and r channels of a master, shared by readers in turn.

    Parameters
    ----------
    address_bits, data_bits : int
    readers : mapping of str to int
        Name to depth of its queue in beats, a power of two, at least ``burst``.
    burst : int
        Longest burst, a power of two.
    outstanding : int
        Bursts under way, a power of two.

    Members
    -------
    bus : Out(Axi4)
        Only ar and r are driven.
    request_<name> : In(stream of `burst_layout`)
        ``address`` and ``last`` such that the burst does not pass a multiple of ``burst`` beats.
    data_<name> : Out(stream of data_bits)
        The beats of the requests, in order.
    flush : In(1)
        No new bursts; what comes and what is queued is dropped.
    quiet : Out(1)
        Nothing is under way.
    failed_<name> : Out(1)
        A beat of the reader came with an error (one cycle each).
    """

    def __init__(self, address_bits: int, data_bits: int, readers: Mapping[str, int], *, burst: int = 16,
                 outstanding: int = 16):
        _check_burst(burst, data_bits)
        assert all(depth >= burst and depth & (depth - 1) == 0 for depth in readers.values())
        self.address_bits, self.data_bits, self.readers = address_bits, data_bits, dict(readers)
        self.burst, self.outstanding = burst, outstanding
        layout = burst_layout(address_bits, data_bits, burst)
        super().__init__({
            "bus": Out(Axi4(address_bits, data_bits)),
            **{f"request_{name}": In(stream.Signature(layout)) for name in readers},
            **{f"data_{name}": Out(stream.Signature(data_bits)) for name in readers},
            **{f"failed_{name}": Out(1) for name in readers},
            "flush": In(1), "quiet": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        bus, names = self.bus, list(self.readers)
        beat_log2 = _log2(self.data_bits // 8)
        m.submodules.tags = tags = SyncFIFO(width=max(1, (len(names) - 1).bit_length()), depth=self.outstanding)
        dropping = Signal()   # beats that come belong to bursts from before the flush
        m.d.sync += dropping.eq(self.flush | (dropping & ~self.quiet))
        clear = self.flush | dropping

        # Who may send a request, and whose turn it is.
        free = ~bus.arvalid | bus.arready
        may = Signal(len(names))
        last, chosen = Signal(range(len(names))), Signal(range(len(names)))
        for at, name in enumerate(names):
            depth, request = self.readers[name], getattr(self, f"request_{name}")
            take = Signal(name=f"take_{name}")
            space = Signal(range(depth + 1), init=depth, name=f"space_{name}")
            grant = Signal(name=f"grant_{name}")
            m.d.comb += [may[at].eq(request.valid & (space >= self.burst) & ~clear & tags.w_rdy),
                         grant.eq(free & may[at] & (chosen == at)), request.ready.eq(grant)]
            reserved = Mux(grant, request.payload.last + 1, 0)
            m.d.sync += space.eq(space - reserved + take)
            with m.If(clear):
                m.d.sync += space.eq(depth)

            queue = _Queue(self.data_bits, depth)
            m.submodules[f"queue_{name}"] = ResetInserter(clear)(queue)
            out = getattr(self, f"data_{name}")
            arrives = bus.rvalid & (tags.r_data == at) & ~clear
            m.d.comb += [queue.i.eq(bus.rdata), queue.write.eq(arrives),
                         getattr(self, f"failed_{name}").eq(arrives & bus.rresp[FAILED]),
                         take.eq(out.valid & out.ready)]
            connect(m, queue.o, flipped(out))

        with m.Switch(last):
            for at in range(len(names)):
                with m.Case(at):
                    order = [(at + step) % len(names) for step in range(len(names), 0, -1)]
                    for other in order:   # the last assignment wins: the next one in turn
                        with m.If(may[other]):
                            m.d.comb += chosen.eq(other)
        chosen_burst = Signal(burst_layout(self.address_bits, self.data_bits, self.burst))
        with m.Switch(chosen):
            for at, name in enumerate(names):
                with m.Case(at):
                    m.d.comb += chosen_burst.eq(getattr(self, f"request_{name}").payload)
        go = free & may.any()
        with m.If(free):
            m.d.sync += bus.arvalid.eq(may.any())
        with m.If(go):
            m.d.sync += [bus.araddr.eq(chosen_burst.address << beat_log2), bus.arlen.eq(chosen_burst.last),
                         last.eq(chosen)]
        m.d.comb += [bus.arid.eq(0), bus.arsize.eq(beat_log2), bus.arburst.eq(INCR), bus.arcache.eq(CACHE),
                     bus.arprot.eq(0), bus.rready.eq(1),
                     tags.w_data.eq(chosen), tags.w_en.eq(go), tags.r_en.eq(bus.rvalid & bus.rlast),
                     self.quiet.eq(~bus.arvalid & ~tags.r_rdy)]
        return m


class RowWriter(wiring.Component):
    """Writes rows of bytes at any byte address: shifts them into place and makes bursts of them.

    A burst is announced on aw only when all of its data are there, so that the w channel never waits in the middle.
    An input beat is taken each cycle, but for one more cycle at the start of each row and one where a row's last bytes
    spill into one more beat.

    Parameters
    ----------
    address_bits, data_bits : int
    longest : int
        Beats of a row's data.
    burst : int
        Longest burst, a power of two.
    outstanding : int
        Bursts whose response has not come, a power of two.

    Members
    -------
    bus : Out(Axi4)
        Only aw, w and b are driven.
    row : In(stream of `row_layout`)
        Rows that come next.
    i : In(stream of `beat_layout`)
        Their data; each row begins with a new beat, and has all bytes but behind its end.
    flush : In(1)
        End the burst that is open, take no more; what is complete is still written.
    quiet : Out(1)
        Nothing is under way.
    done : Out(1)
        Everything of a job is in memory, to the response of its last burst (one cycle each).
    failed : Out(1)
        A response was an error (one cycle each).
    """

    def __init__(self, address_bits: int, data_bits: int, longest: int, *, burst: int = 16, outstanding: int = 16):
        _check_burst(burst, data_bits)
        self.address_bits, self.data_bits, self.burst, self.outstanding = address_bits, data_bits, burst, outstanding
        self.active = Signal()   # within a row
        self.extra = Signal()    # of which only the bytes behind its last beat are left
        super().__init__({
            "bus": Out(Axi4(address_bits, data_bits)), "row": In(stream.Signature(row_layout(address_bits, longest))),
            "i": In(stream.Signature(beat_layout(data_bits))), "flush": In(1), "quiet": Out(1), "done": Out(1),
            "failed": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        bus, burst = self.bus, self.burst
        lanes = self.data_bits // 8
        beat_log2, burst_log2 = _log2(lanes), _log2(burst)
        m.submodules.beats = beats = _Queue(self.data_bits + lanes, 2 * burst)
        space = Signal(range(2 * burst + 1), init=2 * burst)   # places of `beats` that are free
        burst_shape = data.StructLayout({"address": self.address_bits - beat_log2, "last": burst_log2,
                                         "job_last": 1})
        m.submodules.bursts = bursts = SyncFIFO(width=burst_shape.size, depth=4)
        m.submodules.lengths = lengths = SyncFIFO(width=burst_log2, depth=4)
        m.submodules.answers = answers = SyncFIFO(width=1, depth=self.outstanding)

        # Bytes into place: what passes the end of a beat waits for the next one.
        shift = Signal(beat_log2)
        turned = _rotate(m, self.i.payload.data, shift, 8)
        turned_keep = _rotate(m, self.i.payload.keep, shift, 1)
        waiting, waiting_keep = Signal(self.data_bits, reset_less=True), Signal(lanes)
        upper = Cat(shift <= lane for lane in range(lanes))   # lanes that the present beat fills
        spills = (turned_keep & ~upper).any()

        # Where the next beat goes. A burst does not leave its page, so only its place in there is kept.
        page, place = Signal(self.address_bits - beat_log2 - burst_log2), Signal(burst_log2)
        left, job_last = Signal.like(self.row.payload.beats), Signal()
        opened = Signal(range(burst))      # beats of the open burst so far
        first = Signal(burst_log2)         # place of its first beat
        active, extra = self.active, self.extra
        take, put, row_end, close = Signal(), Signal(), Signal(), Signal()
        room = (space != 0) & bursts.w_rdy
        m.d.comb += [
            self.row.ready.eq(~active & ~self.flush & (opened == 0)),
            self.i.ready.eq(active & ~extra & room & ~self.flush),
            take.eq(self.i.valid & self.i.ready),
            put.eq(take | (extra & room)),
            row_end.eq(put & (extra | ((left == 1) & ~spills))),
            # While flushing, an open burst is ended with the beats that it has.
            close.eq(Mux(put, row_end | place.all(), self.flush & (opened != 0) & bursts.w_rdy)),
        ]
        entry = Signal(burst_shape)
        m.d.comb += [entry.address.eq(Cat(Mux(opened == 0, place, first), page)), entry.last.eq(opened - (~put)),
                     entry.job_last.eq(row_end & job_last), bursts.w_data.eq(entry), bursts.w_en.eq(close),
                     beats.write.eq(put)]
        out_data = Cat(Mux(upper[lane] & ~extra, turned.word_select(lane, 8), waiting.word_select(lane, 8))
                       for lane in range(lanes))
        out_keep = Mux(extra, waiting_keep, (upper & turned_keep) | (~upper & waiting_keep))
        m.d.comb += beats.i.eq(Cat(out_data, out_keep))

        with m.If(self.row.valid & self.row.ready):
            m.d.sync += [active.eq(1), shift.eq(self.row.payload.address), left.eq(self.row.payload.beats),
                         Cat(place, page).eq(self.row.payload.address >> beat_log2), job_last.eq(self.row.payload.last),
                         waiting_keep.eq(0)]
        with m.If(take):
            m.d.sync += [left.eq(left - 1), waiting.eq(turned), waiting_keep.eq(turned_keep & ~upper),
                         extra.eq((left == 1) & spills)]
        with m.If(put):
            m.d.sync += [Cat(place, page).eq(Cat(place, page) + 1), opened.eq(opened + 1)]
            with m.If(opened == 0):
                m.d.sync += first.eq(place)
        with m.If(close):
            m.d.sync += opened.eq(0)
        with m.If(row_end | self.flush):
            m.d.sync += [active.eq(0), extra.eq(0)]

        # Bursts are sent when they are complete.
        m.d.comb += [bus.awid.eq(0), bus.awsize.eq(beat_log2), bus.awburst.eq(INCR), bus.awcache.eq(CACHE),
                     bus.awprot.eq(0)]
        sending = Signal(burst_shape)
        m.d.comb += sending.eq(bursts.r_data)
        free = ~bus.awvalid | bus.awready
        go = free & bursts.r_rdy & lengths.w_rdy & answers.w_rdy
        m.d.comb += [bursts.r_en.eq(go), lengths.w_en.eq(go), lengths.w_data.eq(sending.last),
                     answers.w_en.eq(go), answers.w_data.eq(sending.job_last)]
        with m.If(free):
            m.d.sync += bus.awvalid.eq(go)
        with m.If(go):
            m.d.sync += [bus.awaddr.eq(sending.address << beat_log2), bus.awlen.eq(sending.last)]

        sent = Signal(burst_log2)
        leaves = bus.wvalid & bus.wready
        m.d.comb += [bus.wvalid.eq(lengths.r_rdy & beats.o.valid), Cat(bus.wdata, bus.wstrb).eq(beats.o.payload),
                     bus.wlast.eq(sent == lengths.r_data), beats.o.ready.eq(lengths.r_rdy & bus.wready),
                     lengths.r_en.eq(leaves & bus.wlast)]
        m.d.sync += space.eq(space - put + leaves)
        with m.If(leaves):
            m.d.sync += sent.eq(Mux(bus.wlast, 0, sent + 1))

        m.d.comb += [bus.bready.eq(1), answers.r_en.eq(bus.bvalid),
                     self.done.eq(bus.bvalid & answers.r_data), self.failed.eq(bus.bvalid & bus.bresp[FAILED]),
                     self.quiet.eq(~active & (opened == 0) & ~bursts.r_rdy & ~answers.r_rdy & ~bus.awvalid)]
        return m


def _rotate(m: Module, value: Value, by: Value, unit: int) -> Signal:
    """``value`` rotated towards its most significant end by ``by * unit`` bits."""
    for level in range(len(by)):
        # Named at every level: an expression would hold two copies of the level below, and so on.
        turned = Signal(len(value), name=f"turned_{unit}_{level}")
        m.d.comb += turned.eq(Mux(by[level], value.rotate_left(unit << level), value))
        value = turned
    return value
