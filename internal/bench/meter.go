package bench

import (
	"slices"
	"sync/atomic"
	"time"
)

// meter looks at the memory of the server while a scenario runs.
type meter struct {
	r    *runner
	peak int64
	stop chan struct{}
	done chan struct{}
}

// look is how often memory is read. Reading it costs time that grows with it, so the
// pause is at least a hundred times as long as that took.
const look = 500 * time.Millisecond

// watch begins to look.
func (r *runner) watch() *meter {
	m := &meter{r: r, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		pause := look
		for {
			select {
			case <-m.stop:
				return
			case <-time.After(pause):
			}
			start := time.Now()
			m.peak = max(m.peak, r.memory().pss)
			pause = max(look, 100*time.Since(start))
		}
	}()
	return m
}

// end stops looking and puts into res what was seen.
func (m *meter) end(res *Result) {
	m.halt()
	res.Memory = m.r.memory().pss
	res.MemoryPeak = max(m.peak, res.Memory)
}

func (m *meter) halt() {
	if m.stop != nil {
		close(m.stop)
		<-m.done
		m.stop = nil
	}
}

// server is what is known of the server's process, which changes with a restart.
type server struct{ pid atomic.Int64 }

// memory returns the memory of the server, or zero if it is not known.
func (s *server) memory() memory {
	pid := int(s.pid.Load())
	if pid == 0 {
		return memory{}
	}
	m, _ := processMemory(pid) // there may be no process during a restart
	return m
}

// mark is what processor time the server had used at a moment.
type mark struct {
	at       time.Time
	used     time.Duration
	children time.Duration
	family   []int
}

// mark reads the processor time of the server; it is nothing if the process is not
// known. The clocks are read last, so that what is timed next follows closely.
func (s *server) mark() mark {
	pid := int(s.pid.Load())
	if pid == 0 {
		return mark{}
	}
	m := mark{}
	m.family, _ = family(pid) // there may be no process during a restart
	for _, id := range m.family {
		m.children += readStat(id).children
	}
	for _, id := range m.family {
		m.used += ownTime(id)
	}
	m.at = time.Now()
	return m
}

// since returns the processor time that the server has used since a mark, and how long
// that was. The clocks are read first, and then who has come and gone.
func (s *server) since(m mark) (used, whole time.Duration) {
	if m.family == nil {
		return 0, 0
	}
	whole = time.Since(m.at)
	for _, id := range m.family {
		used += ownTime(id)
	}
	for _, id := range m.family {
		used += readStat(id).children
	}
	all, _ := family(int(s.pid.Load()))
	for _, id := range all {
		if !slices.Contains(m.family, id) {
			used += ownTime(id) + readStat(id).children
		}
	}
	return max(used-m.used-m.children, 0), whole
}
