package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// Limits of HTTP connections.
const (
	httpHeaderWait = 10 * time.Second
	httpIdle       = 30 * time.Second
	httpMaxHeader  = 2 << 10  // bytes, to which net/http adds 4 KB
	httpMaxLines   = 150      // of a request; parsed, a short one takes twenty times its length
	httpMaxHello   = 24 << 10 // bytes of the beginning of a TLS handshake
)

// publicHTTP answers on http and https listeners.
func (h *house) publicHTTP(sessions *netsrv.Server) http.Handler {
	mux := http.NewServeMux()
	// Alive: the process answers.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	// Ready: mail can be taken in.
	h.vitals = newVitals(h, sessions)
	h.vitals.pages(mux)
	var said atomic.Int64 // in which minute the log was told
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch err := h.vitals.ready(); {
		case errors.Is(err, errDraining):
			plain(w, http.StatusServiceUnavailable, "draining")
			return
		case err != nil:
			if minute := time.Now().Unix() / 60; said.Swap(minute) != minute { // anybody may ask, as often as he likes
				h.log.Warn("not ready", "err", err)
			}
			plain(w, http.StatusServiceUnavailable, "the store does not take mail")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /.well-known/mta-sts.txt", h.ownPolicy)
	metrics := promhttp.HandlerFor(newMetrics(h, sessions), promhttp.HandlerOpts{})
	mux.Handle("GET /metrics", trustedOnly(h.cfg.Trusted, metrics))
	public := http.Handler(mux)
	if h.cfg.Autoconfig.Enabled {
		public = h.settings().Wrap(public)
	}
	if h.acme != nil {
		return h.acme.challenges(public)
	}
	return public
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client has gone if this fails
}

// trustedOnly keeps figures from strangers: they tell how much mail there is.
func trustedOnly(trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		for _, p := range trusted {
			if err == nil && p.Contains(peer.Addr().Unmap()) {
				next.ServeHTTP(w, r)
				return
			}
		}
		plain(w, http.StatusForbidden, "only for the networks listed as trusted in the configuration")
	})
}

func (h *house) tlsFor(d door, certs certificateSource) *tls.Config {
	if d.TLS != conf.Implicit || certs == nil {
		return nil
	}
	return &tls.Config{MinVersion: minTLS(h.cfg), GetCertificate: certs.Get, NextProtos: []string{"http/1.1", acmez.ACMETLS1Protocol}}
}

// servePublic answers strangers: what they may send and how long they may take is bounded,
// and they speak HTTP/1.1 only, which costs least for each connection.
func (h *house) servePublic(ctx context.Context, ln net.Listener, handler http.Handler, tc *tls.Config) error {
	most := time.Duration(h.cfg.Limits.RequestTime)
	if tc != nil {
		ln = tls.NewListener(sparing{ln, limits{bytes: httpMaxHello}}, tc)
		handler = overTLS(handler)
	}
	return serveHTTP(ctx, sparing{ln, limits{bytes: httpMaxHello, lines: httpMaxLines}}, &http.Server{
		Handler: handler, MaxHeaderBytes: httpMaxHeader,
		ReadHeaderTimeout: min(httpHeaderWait, most), ReadTimeout: most, WriteTimeout: most,
	}, h.log)
}

// overTLS marks requests as having come over TLS, which net/http does not see behind what bounds
// the connection.
func overTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		marked := *r
		marked.TLS = &tls.ConnectionState{HandshakeComplete: true}
		next.ServeHTTP(w, &marked)
	})
}

// serveAdmin answers commands on the socket, which only the owner of the data may open:
// their requests may take long.
func (h *house) serveAdmin(ctx context.Context, ln net.Listener) error {
	return serveHTTP(ctx, ln, &http.Server{Handler: h.admin(), ReadHeaderTimeout: httpHeaderWait}, h.log)
}

// serveHTTP answers on a listener until ctx ends, and then lets requests under way come
// to their end for as long as a stop may take.
func serveHTTP(ctx context.Context, ln net.Listener, srv *http.Server, log *slog.Logger) error {
	srv.IdleTimeout = httpIdle
	srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// sparing is a listener whose clients may send only so much until they are answered.
// net/http bounds the bytes of a header, but not what it makes of them.
type sparing struct {
	net.Listener
	limits
}

// limits of what comes between two answers; no lines are no limit.
type limits struct{ bytes, lines int64 }

func (l sparing) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &sparingConn{Conn: nc, limits: l.limits}, nil
}

type sparingConn struct {
	net.Conn
	limits
	bytesIn, linesIn atomic.Int64 // since the last answer
	over             atomic.Bool
}

var errSparing = errors.New("a request that is too long")

const tooLong = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

func (c *sparingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	lines := c.linesIn.Add(int64(bytes.Count(p[:n], []byte("\n"))))
	if c.bytesIn.Add(int64(n)) > c.bytes || c.lines > 0 && lines > c.lines {
		if !c.over.Swap(true) && c.lines > 0 {
			c.Conn.Write([]byte(tooLong)) // net/http would say nothing of the kind
		}
		return 0, errSparing
	}
	return n, err
}

func (c *sparingConn) Write(p []byte) (int, error) {
	c.bytesIn.Store(0)
	c.linesIn.Store(0)
	if c.over.Load() { // it has been said
		return len(p), nil
	}
	return c.Conn.Write(p)
}
