package house

import (
	"bytes"
	"context"
	"sync"

	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/send"
)

// Remote makes a courier of package send one of the queue, as cmd/martlet does.
type Remote struct{ *send.Courier }

func (r Remote) Deliver(ctx context.Context, job queue.Job) []queue.Result {
	found := r.Send(ctx, job.Envelope, send.Message(job.Message), func(who []int, found send.Result) {
		if job.Settled != nil {
			job.Settled(who, queue.Result(found))
		}
	})
	results := make([]queue.Result, len(found))
	for i := range found {
		results[i] = queue.Result(found[i])
	}
	return results
}

// Log is one that may be read while it is written.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
