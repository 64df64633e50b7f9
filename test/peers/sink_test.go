package peers

import (
	"sync"
	"testing"

	"github.com/martlet-mail/martlet/test/traffic"
)

// sink is another host that keeps the bytes as they came.
type sink struct {
	*traffic.Host
	mu sync.Mutex
	// got is what came, by recipient; seen is how often.
	got  map[string][]byte
	seen map[string]int
}

func startSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{got: map[string][]byte{}, seen: map[string]int{}}
	s.Host = traffic.StartHost(t, s.keep, "PIPELINING", "SIZE 100000000", "SMTPUTF8", "8BITMIME")
	return s
}

func (s *sink) keep(to []string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range to {
		s.got[a] = text
		s.seen[a]++
	}
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) message(to string) ([]byte, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[to], s.seen[to]
}
