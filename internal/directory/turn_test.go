package directory

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

// slowIssuer does not answer before it may.
type slowIssuer chan struct{}

func (i slowIssuer) Hints() sasl.Bearer { return sasl.Bearer{} }
func (i slowIssuer) Check(context.Context, string) (string, error) {
	<-i
	return "", errWrong()
}

// A login that waits, for having been wrong, for others or for an issuer of tokens, leaves
// the processor to those who log in from the same address.
func TestLoginRests(t *testing.T) {
	nat := netip.MustParseAddr("203.0.113.7")
	for name, run := range map[string]func(ctx context.Context, f *fixture, let chan struct{}) error{
		"wrong": func(ctx context.Context, f *fixture, let chan struct{}) error {
			f.slow.sleep = func(context.Context, time.Duration) error { <-let; return nil }
			_, err := f.Authenticate(ctx, "alice@example.org", "wrong", nat)
			return err
		},
		"memory": func(ctx context.Context, f *fixture, let chan struct{}) error {
			occupy(f, let)
			_, err := f.Authenticate(ctx, "alice@example.org", "wrong", nat)
			return err
		},
		"brake": func(ctx context.Context, f *fixture, let chan struct{}) error {
			f.slow.perLogin = 1
			occupy(f, let)
			first := make(chan error)
			go func() {
				_, err := f.Authenticate(context.Background(), "alice@example.org", "secret", nat)
				first <- err
			}()
			for f.hashes.waiting.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			_, err := f.Authenticate(ctx, "alice@example.org", "wrong", nat)
			if right := <-first; right != nil {
				return right
			}
			return err
		},
		"issuer": func(ctx context.Context, f *fixture, let chan struct{}) error {
			f.Directory.opt.Tokens = slowIssuer(let)
			_, err := f.bearer(ctx, "", "a token")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			f.add(t, "alice@example.org", "secret")
			g := turn.NewGate(2)
			other, work, neighbour := g.Turn(), g.Turn(), g.Turn()
			other.Take("other")
			work.Take("nat")
			let, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- run(turn.With(context.Background(), &work), f, let) }()
			rests := false
			for end := time.Now().Add(10 * time.Second); !rests && time.Now().Before(end); time.Sleep(time.Millisecond) {
				neighbour.Take("nat")
				rests = !neighbour.Over()
				neighbour.Give()
			}
			if !rests {
				t.Error("it waits with its turn")
			}
			close(let)
			if err := <-ended; !fault.Is(err, fault.Unauthenticated) {
				t.Error(err)
			}
			work.Give()
			other.Give()
		})
	}
}

// occupy takes all memory for hashes until it may be had.
func occupy(f *fixture, let chan struct{}) {
	for range cap(f.hashes.slots) {
		f.hashes.slots <- struct{}{}
	}
	go func() {
		<-let
		for range cap(f.hashes.slots) {
			<-f.hashes.slots
		}
	}()
}
