package bench

import (
	"context"
	"crypto/tls"

	"github.com/martlet-mail/martlet/internal/fault"
)

// visitor is a client that opens a connection, logs in and goes away, again and again.
type visitor struct {
	ctx     context.Context
	target  Target
	resumes bool
	visits  int
}

func (v *visitor) prepare(int) {}

func (v *visitor) Close() error { return nil }

func (v *visitor) deliver() (int, string, error) {
	c, err := greetIMAP(v.ctx, v.target, narrow)
	if err != nil {
		if v.ctx.Err() != nil {
			return 0, "stopped", nil
		}
		return 0, "", err
	}
	defer c.Close()
	v.visits++
	tc, ok := c.Conn.(*tls.Conn)
	if resumed := ok && tc.ConnectionState().DidResume; v.resumes && v.visits > 1 && !resumed {
		return 0, "the TLS session was not resumed", nil
	}
	return 0, "", nil
}

// runHandshake times new connections by TLS, each with a login: with a full handshake,
// and with one that resumes the session of the connection before (RFC 8446, 2.2).
func runHandshake(ctx context.Context, r *runner) error {
	for _, resumes := range []bool{false, true} {
		for _, n := range r.opt.Connections {
			res := Result{Scenario: "handshake", TLS: r.target.TLS.IMAP}
			if resumes {
				res.Scenario = "handshake-resumed"
			}
			err := r.deliveries(ctx, res, n, func(int) (worker, error) {
				v := &visitor{ctx: ctx, target: r.target, resumes: resumes}
				v.target.TLS.Config = v.target.TLS.Config.Clone()
				if v.target.TLS.Config == nil {
					v.target.TLS.Config = &tls.Config{}
				}
				v.target.TLS.Config.ClientSessionCache = nil
				if resumes {
					v.target.TLS.Config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				}
				if !resumes {
					return v, nil
				}
				_, _, err := v.deliver() // there has to be a session to resume
				return v, err
			})
			if fault.Is(err, fault.Unavailable) && resumes && ctx.Err() == nil {
				return fault.Wrap(fault.Unsupported, "the server does not resume TLS sessions", err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
