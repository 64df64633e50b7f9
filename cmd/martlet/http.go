package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// Limits of HTTP connections.
const (
	httpHeaderWait = 10 * time.Second
	httpIdle       = 30 * time.Second
	httpMaxHeader  = 2 << 10 // bytes, to which net/http adds 4 KB; parsed they take ten times as much
)

// publicHTTP answers on http and https listeners.
func (h *house) publicHTTP(sessions *netsrv.Server) http.Handler {
	mux := http.NewServeMux()
	// Alive: the process answers.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	// Ready: mail can be taken in.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.engine.Healthy(); err != nil {
			h.log.Warn("not ready", "err", err)
			plain(w, http.StatusServiceUnavailable, "the store does not take mail")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	metrics := promhttp.HandlerFor(newMetrics(h, sessions), promhttp.HandlerOpts{})
	mux.Handle("GET /metrics", trustedOnly(h.cfg.Trusted, metrics))
	return mux
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

func (h *house) tlsFor(d door, certs *netsrv.Certificates) *tls.Config {
	if d.TLS != conf.Implicit || certs == nil {
		return nil
	}
	return &tls.Config{MinVersion: minTLS(h.cfg), GetCertificate: certs.Get, NextProtos: []string{"http/1.1"}}
}

// servePublic answers strangers: what they may send and how long they may take is bounded,
// and they speak HTTP/1.1 only, which costs least for each connection.
func (h *house) servePublic(ctx context.Context, ln net.Listener, handler http.Handler, tc *tls.Config) error {
	most := time.Duration(h.cfg.Limits.RequestTime)
	return serveHTTP(ctx, ln, &http.Server{
		Handler: handler, MaxHeaderBytes: httpMaxHeader, TLSConfig: tc,
		ReadHeaderTimeout: min(httpHeaderWait, most), ReadTimeout: most, WriteTimeout: most,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2
	}, h.log)
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
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}
