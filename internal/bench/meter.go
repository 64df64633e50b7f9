package bench

import (
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

// processorTime returns that of the server, or zero if it is not known.
func (s *server) processorTime() time.Duration {
	pid := int(s.pid.Load())
	if pid == 0 {
		return 0
	}
	d, _ := processorTime(pid)
	return d
}
