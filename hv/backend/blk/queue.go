package blk

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	// maxRingOrder is the largest ring in pages, as a power of two: Xen's own bound.
	maxRingOrder = 4
	// maxWorkers is how many transfers of a disk may be under way at once.
	maxWorkers = 16
	// maxRounds bounds how long Work goes on before it lets others have their turn.
	maxRounds = 32
	// maxMerge bounds a joined transfer: the buffers that one system call takes, and
	// what may go by before other requests have their turn.
	maxMergeBufs, maxMergeBytes = 1024, 2 << 20
	// quick is how long a transfer may take that is done at once, without a worker:
	// less than any device needs, so those are copies from and to the host's memory.
	quick = 50 * time.Microsecond
	// maxNowBytes bounds what a processor's thread transfers itself: Linux' largest
	// request. The guest can run on while more is copied.
	maxNowBytes = 128 << 10
	// gather is how long fewer requests wait than an event was asked for, and tryAgain
	// how many events there are until it is asked for several once more.
	gather   = 250 * time.Microsecond
	tryAgain = 512
)

// queue serves one front end. Fields without a word on them belong to whoever
// calls the Driver.
type queue struct {
	disk *Disk

	link    *backend.Link // nil: not connected
	ring    *backend.Ring
	channel *xen.Channel
	narrow  bool

	in    raw      // the request that is read
	out   [16]byte // the response that is written
	free  []*request
	idle  []*job // to be used again
	batch []*job
	done  []*job        // those that are answered now
	open  int           // requests that were submitted and not answered yet
	cost  time.Duration // of a transfer, smoothed

	asked int         // an event comes with so many requests
	till  int         // events until more is tried
	timer accel.Timer // for fewer

	mu       sync.Mutex
	ready    []*job         // guarded by mu; for a worker
	finished []*job         // guarded by mu; to be answered
	stalled  []*job         // guarded by mu; wait for room on the host's disk
	workers  int            // guarded by mu
	closed   bool           // guarded by mu; nobody may begin a transfer
	running  sync.WaitGroup // workers
}

// job is a transfer: one request, or several that follow each other on the disk.
type job struct {
	medium *medium
	reqs   []*request
	bufs   [][]byte
	room   [][]byte // for bufs of more than one
	n      int64
	took   time.Duration
}

var (
	_ backend.Drainer = (*queue)(nil)
	_ backend.Prompt  = (*queue)(nil)
)

func newQueue(d *Disk) *queue { return &queue{disk: d} }

// Connect takes the ring that the front end has published.
func (q *queue) Connect(l *backend.Link) (map[string]string, error) {
	size := xenabi.BlkifEntry
	switch p := l.Nodes["protocol"]; p {
	case "x86_64-abi", "":
		q.narrow = false
	case "x86_32-abi":
		q.narrow, size = true, xenabi.BlkifEntry32
	default:
		return nil, fmt.Errorf("%w: protocol %q", backend.ErrFrontEnd, p)
	}
	refs, err := ringRefs(l)
	if err != nil {
		return nil, err
	}
	port, err := l.Uint32("event-channel")
	if err != nil {
		return nil, err
	}
	if q.ring, err = l.Ring(size, refs...); err != nil {
		return nil, err
	}
	if q.channel, err = l.Channel(port, nil); err != nil {
		return nil, err
	}
	q.link, q.timer, q.cost, q.asked, q.till = l, l.Timer(), 0, 1, tryAgain
	q.mu.Lock()
	q.closed = false
	q.mu.Unlock()
	return q.disk.nodes(), nil
}

// ringRefs are the grants of the ring's pages: ring-ref, or ring-ref0 and on.
func ringRefs(l *backend.Link) ([]uint32, error) {
	if _, ok := l.Nodes["ring-page-order"]; !ok {
		ref, err := l.Uint32("ring-ref")
		return []uint32{ref}, err
	}
	order, err := l.Uint32("ring-page-order")
	if err != nil {
		return nil, err
	}
	if order > maxRingOrder {
		return nil, fmt.Errorf("%w: a ring of 2^%d pages", backend.ErrFrontEnd, order)
	}
	refs := make([]uint32, 1<<order)
	for i := range refs {
		if refs[i], err = l.Uint32(fmt.Sprintf("ring-ref%d", i)); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// Disconnect waits for the transfers that have begun and forgets the others.
func (q *queue) Disconnect() {
	q.mu.Lock()
	drop := append(q.ready, q.stalled...)
	q.ready, q.stalled, q.closed = nil, nil, true
	q.mu.Unlock()
	q.running.Wait()
	q.mu.Lock()
	drop = append(drop, append(q.finished, q.stalled...)...)
	q.finished, q.stalled = nil, nil
	q.mu.Unlock()
	for _, j := range append(drop, q.batch...) {
		j.medium.users.Done()
	}
	q.batch, q.free, q.idle, q.open = nil, nil, nil, 0
	q.link, q.ring, q.channel = nil, nil, nil
}

// Work takes requests, has them served, and answers what is finished.
func (q *queue) Work() error {
	for range maxRounds {
		if err := q.take(); err != nil {
			return err
		}
		q.submit()
		if err := q.answer(); err != nil {
			return err
		}
		if more, err := q.more(); err != nil || !more {
			return err
		}
	}
	q.link.Wake()
	return nil
}

// WorkNow takes requests and does those that wait for nothing; the others are in
// the batch, for Work.
func (q *queue) WorkNow() (done bool, err error) {
	if err := q.take(); err != nil {
		return false, err
	}
	done = q.now()
	if err := q.answer(); err != nil {
		return false, err
	}
	more, err := q.more()
	return done && !more && err == nil, err
}

// now does the batch if that is little and waits for nothing, and reports whether
// all of it is done.
func (q *queue) now() bool {
	var bytes int64
	for _, j := range q.batch {
		bytes += j.n
	}
	done := 0
	for ; bytes <= maxNowBytes && done < len(q.batch) && q.doNow(q.batch[done]); done++ {
		q.open += len(q.batch[done].reqs)
		q.file(q.batch[done])
	}
	q.batch = slices.Delete(q.batch, 0, done)
	return len(q.batch) == 0
}

func (q *queue) doNow(j *job) bool {
	f, ok := j.medium.DiskFile.(hv.PromptFile)
	if !ok {
		return false
	}
	begin, r := time.Now(), j.reqs[0]
	switch r.op {
	case xenabi.BLKIF_OP_READ:
		ok = f.ReadVNow(j.bufs, r.off)
	case xenabi.BLKIF_OP_WRITE:
		ok = f.WriteVNow(j.bufs, r.off)
	default:
		ok = false
	}
	if ok {
		q.noteAll(j, begin, nil)
	}
	return ok
}

// answer gives the front end the answers that there are.
func (q *queue) answer() error {
	q.collect()
	notify, err := q.ring.Push()
	if err == nil && notify {
		q.channel.Notify()
	}
	return err
}

// Drain waits for the transfers that have begun, answers them, and flushes.
func (q *queue) Drain() error {
	q.submit() // what WorkNow left
	q.running.Wait()
	if err := q.answer(); err != nil {
		return err
	}
	if q.open > 0 {
		return errors.New("the disk waits for room on this computer: make some first")
	}
	m := q.disk.use()
	if m == nil {
		return nil
	}
	defer m.users.Done()
	if q.disk.config.ReadOnly {
		return nil
	}
	return m.Flush()
}

// take reads the requests that wait in the ring and makes jobs of them.
func (q *queue) take() error {
	for n := 0; ; n++ {
		ok, err := q.ring.Next(q.in[:])
		if err != nil {
			return err
		}
		if !ok {
			q.came(n)
			return nil
		}
		h := decode(&q.in, q.narrow)
		r := q.request()
		m := q.disk.use()
		size := int64(0)
		if m != nil {
			size = m.Size()
		}
		err = r.fill(&h, q.link, size, q.disk.config.ReadOnly)
		if err == nil && m != nil {
			q.add(m, r)
			continue
		}
		if m != nil {
			m.users.Done()
		}
		if err != nil {
			r.status = xenabi.BLKIF_RSP_ERROR
			if errors.Is(err, errUnsupported) {
				r.status = xenabi.BLKIF_RSP_EOPNOTSUPP
			}
		}
		if err := q.respond(r); err != nil {
			return err
		}
	}
}

// came learns from how many requests have come together. Linux tells of each of many
// as soon as it may, but needs none of them answered before the next: then events
// are asked for many at a time, and now and then it is tried whether there are.
func (q *queue) came(n int) {
	switch {
	case n == 0: // a worker has finished something
	case n < q.asked: // the guest had no more
		q.asked, q.till = max(n-(n+3)/4, 1), tryAgain
	case q.till > 0:
		q.till--
	default:
		q.asked = min(2*q.asked, q.ring.Size()/2)
	}
}

// more asks for the next event. Fewer requests than it is for are looked for soon.
func (q *queue) more() (bool, error) {
	more, err := q.ring.MoreAt(q.asked)
	if q.asked > 1 && !more {
		q.timer.Set(gather)
	}
	return more, err
}

func (q *queue) request() *request {
	if n := len(q.free); n > 0 {
		r := q.free[n-1]
		q.free = q.free[:n-1]
		return r
	}
	return &request{}
}

// respond answers a request, of which nothing is used any more.
func (q *queue) respond(r *request) error {
	q.free = append(q.free, r)
	return q.ring.Respond(r.answer(q.narrow, &q.out))
}

// add puts a request into the batch, joined to the last one if it goes on where
// that ends.
func (q *queue) add(m *medium, r *request) {
	if n := len(q.batch); n > 0 {
		j := q.batch[n-1]
		last := j.reqs[len(j.reqs)-1]
		if j.medium == m && last.op == r.op && r.op <= xenabi.BLKIF_OP_WRITE && last.off+last.n == r.off &&
			len(j.bufs)+len(r.bufs) <= maxMergeBufs && j.n+r.n <= maxMergeBytes {
			if len(j.reqs) == 1 {
				j.room = append(j.room[:0], j.bufs...) // not in the request's own
			}
			j.room = append(j.room, r.bufs...)
			j.reqs, j.bufs, j.n = append(j.reqs, r), j.room, j.n+r.n
			m.users.Done() // the job has one
			return
		}
	}
	q.batch = append(q.batch, q.job(m, r))
}

// job makes a job of one request.
func (q *queue) job(m *medium, r *request) *job {
	j := &job{}
	if n := len(q.idle); n > 0 {
		j, q.idle = q.idle[n-1], q.idle[:n-1]
	}
	j.medium, j.bufs, j.n, j.took = m, r.bufs, r.n, 0
	j.reqs = append(j.reqs[:0], r)
	return j
}

// submit serves the batch: at once what is quick or alone, the rest by workers.
func (q *queue) submit() {
	for i, j := range q.batch {
		op := j.reqs[0].op
		alone := len(q.batch) == 1 && q.open == 0 && op <= xenabi.BLKIF_OP_WRITE
		q.batch[i] = nil
		q.open += len(j.reqs)
		if alone || op <= xenabi.BLKIF_OP_WRITE && q.cost < quick && q.cost > 0 {
			q.do(j)
			q.file(j)
			continue
		}
		q.mu.Lock()
		q.hireLocked(j)
		q.mu.Unlock()
	}
	q.batch = q.batch[:0]
}

// hireLocked gives a job to a worker.
func (q *queue) hireLocked(j *job) {
	q.ready = append(q.ready, j)
	if q.workers < maxWorkers {
		q.workers++
		q.running.Go(q.work)
	}
}

// work is a worker: it does jobs as long as there are any.
func (q *queue) work() {
	q.mu.Lock()
	for len(q.ready) > 0 {
		j := q.ready[0]
		q.ready = q.ready[1:]
		q.mu.Unlock()
		q.do(j)
		q.file(j)
		q.link.Wake()
		q.mu.Lock()
	}
	q.workers--
	q.mu.Unlock()
}

// file puts a job away that was done: to be answered, or, what had no room on
// the host's disk, to be done again.
func (q *queue) file(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	done := j.reqs[:0]
	for _, r := range j.reqs {
		if r.status == stalled {
			again := &job{medium: j.medium, reqs: []*request{r}, bufs: r.bufs, n: r.n}
			j.medium.users.Add(1)
			q.stalled = append(q.stalled, again)
		} else {
			done = append(done, r)
		}
	}
	j.reqs = done
	q.finished = append(q.finished, j)
}

// collect answers the jobs that are finished.
func (q *queue) collect() {
	q.mu.Lock()
	q.done, q.finished = q.finished, q.done[:0]
	q.mu.Unlock()
	for i, j := range q.done {
		q.done[i] = nil
		q.open -= len(j.reqs)
		j.medium.users.Done()
		q.cost = (3*q.cost + j.took) / 4
		for _, r := range j.reqs {
			_ = q.respond(r) // fails with the ring only, as the next Push says
		}
		j.medium, j.bufs = nil, nil
		q.idle = append(q.idle, j)
	}
}

// retry has workers take up what is stalled.
func (q *queue) retry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for _, j := range q.stalled {
		j.reqs[0].status = xenabi.BLKIF_RSP_OKAY
		q.hireLocked(j)
	}
	q.stalled = nil
}

// stalled is the status of a job that waits for room; front ends never see it.
const stalled = 1

// do transfers what a job asks for and notes how it went.
func (q *queue) do(j *job) {
	begin := time.Now()
	err := transfer(j.medium, j.reqs[0].op, j.bufs, j.reqs[0].off, j.n)
	if err != nil && len(j.reqs) > 1 && !full(err) { // which of them is it?
		for _, r := range j.reqs {
			q.note(r, transfer(j.medium, r.op, r.bufs, r.off, r.n))
		}
		return
	}
	q.noteAll(j, begin, err)
}

// noteAll notes how a transfer went that was begun then.
func (q *queue) noteAll(j *job, begin time.Time, err error) {
	for _, r := range j.reqs {
		q.note(r, err)
	}
	j.took = time.Since(begin)
}

func transfer(m *medium, op uint8, bufs [][]byte, off, n int64) error {
	switch {
	case op == xenabi.BLKIF_OP_DISCARD && n > 0:
		return m.Discard(off, n)
	case op == xenabi.BLKIF_OP_DISCARD:
		return nil
	}
	switch op {
	case xenabi.BLKIF_OP_READ:
		return m.ReadV(bufs, off)
	case xenabi.BLKIF_OP_WRITE:
		return m.WriteV(bufs, off)
	}
	if err := m.Flush(); err != nil || n == 0 {
		return err
	}
	return m.WriteV(bufs, off)
}

func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// note counts a request that went well, and says what went wrong.
func (q *queue) note(r *request, err error) {
	d := q.disk
	switch {
	case err == nil && r.op == xenabi.BLKIF_OP_READ:
		d.reads.Add(1)
		d.readBytes.Add(uint64(r.n))
	case err == nil && r.op == xenabi.BLKIF_OP_DISCARD, err == nil && r.n == 0:
	case err == nil:
		d.writes.Add(1)
		d.writeBytes.Add(uint64(r.n))
	case r.op == xenabi.BLKIF_OP_DISCARD && errors.Is(err, errors.ErrUnsupported):
		r.status = xenabi.BLKIF_RSP_EOPNOTSUPP
	case full(err):
		r.status = stalled
		d.config.Full()
	default:
		r.status = xenabi.BLKIF_RSP_ERROR
		d.failed(r, err)
	}
}
