package link

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// pulse is how it is felt whether the run of a link comes further. Its source may be connected for
// many runs.
type pulse struct{ watch atomic.Pointer[time.Timer] }

// beat says that the run, if there is one, has come further.
func (p *pulse) beat() {
	if watch := p.watch.Load(); watch != nil {
		watch.Reset(still)
	}
}

type pulseKey struct{}

// Dial connects to a source.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Felt is dial for a source that Options.Open opens with ctx: by what goes over its connections
// it is felt that the run comes further. A server is told something more when it has answered, or
// is just being told; what it says counts by 64 KB.
func Felt(ctx context.Context, dial Dial) Dial {
	p, ok := ctx.Value(pulseKey{}).(*pulse)
	if !ok {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &felt{Conn: c, in: watched{r: c, further: p.beat}, p: p}, nil
	}
}

type felt struct {
	net.Conn
	in watched
	p  *pulse
}

func (c *felt) Read(b []byte) (int, error) { return c.in.Read(b) }

func (c *felt) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		c.p.beat()
	}
	return n, err
}
