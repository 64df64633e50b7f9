package carry

import "sync"

// meter counts, and tells what it has counted.
type meter struct {
	tell func(Progress)

	mu      sync.Mutex
	at      Progress
	differs string // the first thing that did
}

// begin begins a stage.
func (m *meter) begin(p pass, shards int) {
	m.count(func(at *Progress) { *at = Progress{Stage: p.stage, Round: p.round, ShardsTotal: shards} })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.differs = ""
}

// count changes the counts and tells of them.
func (m *meter) count(change func(at *Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.at)
	if m.tell != nil {
		m.tell(m.at)
	}
}

// changed counts something that was not as on the source.
func (m *meter) changed(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at.Changed++
	if m.differs == "" {
		m.differs = what
	}
}

func (m *meter) now() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *meter) first() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.differs
}
