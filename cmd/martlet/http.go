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
	httpMaxConns   = 1000     // at the same time, on one listener
	httpMaxHeader  = 32 << 10 // bytes
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
	return &tls.Config{MinVersion: minTLS(h.cfg), GetCertificate: certs.Get, NextProtos: []string{"h2", "http/1.1"}}
}

// serveHTTP answers on a listener until ctx ends, and then lets requests under way come
// to their end for as long as a stop may take.
func serveHTTP(ctx context.Context, ln net.Listener, handler http.Handler, tc *tls.Config, log *slog.Logger) error {
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: httpHeaderWait, IdleTimeout: httpIdle, MaxHeaderBytes: httpMaxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), TLSConfig: tc,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
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
	if tc != nil {
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
