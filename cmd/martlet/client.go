package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/admin"
)

// client is a command's way to the admin handler: through the socket of a running
// server, or in-process on the store while none runs on this machine.
type client struct {
	http   *http.Client
	online bool
	close  func() error
}

// startWait is how long a command waits for a server that holds the data folder and
// does not answer yet: it may be starting.
const startWait = 3 * time.Second

// connect finds the configuration and then the server or the data folder. A command
// that only reads does not make a data folder where there is none.
func connect(cmd *cobra.Command, mayCreate bool) (*client, error) {
	cfg, path, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	ctx := cmd.Context()
	deadline := time.Now().Add(startWait)
	for {
		c, err := dialServer(ctx, cfg)
		if c != nil || err != nil {
			return c, err
		}
		c, err = openOffline(ctx, cfg, path, mayCreate)
		if !fault.Is(err, fault.Busy) {
			return c, err
		}
		if time.Now().After(deadline) {
			return nil, lockedError(cfg)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// dialServer returns nil without an error if no server listens.
func dialServer(ctx context.Context, cfg *conf.Config) (*client, error) {
	socket := cfg.AdminSocket()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		name, done, err := shortSocketName(socket)
		if err != nil {
			return nil, err
		}
		defer done()
		return new(net.Dialer).DialContext(ctx, "unix", name)
	}
	probe, err := dial(ctx, "", "")
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, nil
	case errors.Is(err, os.ErrPermission):
		return nil, failed("no permission to use the server's admin socket %s; run the command as the server's user or as root", socket)
	case err != nil:
		return nil, failed("cannot reach the server on %s: %v", socket, err)
	}
	probe.Close()
	tr := &http.Transport{DialContext: dial, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10} // imports write much
	return &client{http: &http.Client{Transport: tr}, online: true, close: func() error { tr.CloseIdleConnections(); return nil }}, nil
}

// openOffline opens the store itself. One that other machines share is worked on beside
// their servers.
func openOffline(ctx context.Context, cfg *conf.Config, path string, mayCreate bool) (*client, error) {
	if _, err := os.Stat(engineDir(cfg)); err != nil && !mayCreate && !shared(cfg) {
		if os.IsNotExist(err) {
			return nil, failed("there is no data in %s yet (named by %s); begin with: martlet domain add", cfg.Data, path)
		}
		return nil, failed("cannot read the data folder %s: %v", cfg.Data, err)
	}
	if owner := otherOwner(engineLock(cfg)); owner != "" && owner != cfg.User {
		return nil, failed("no server runs, and the data in %s is that of user %s; run the command as this user: sudo -u '%s' martlet ...", cfg.Data, owner, owner)
	}
	// Without a log: whatever matters to a command is in the error it gets.
	h, err := openHouse(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &client{http: &http.Client{Transport: inProcess{h.admin()}}, close: h.close}, nil
}

// lockedError says who holds a data folder without answering on its socket.
func lockedError(cfg *conf.Config) error {
	who := "another process"
	if pid := lockHolder(engineLock(cfg)); pid > 0 {
		who = processName(pid)
	}
	return failed("the data folder %s is in use by %s, which does not answer on %s; stop it, or set the same [admin] socket here", cfg.Data, who, cfg.AdminSocket())
}

// do sends a request and hands each line of the answer to fn. The answer of a request
// that returns one object is one line.
func (c *client) do(ctx context.Context, method, path string, in any, fn func(line json.RawMessage) error) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://martlet"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed("the server does not answer: %v", err)
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	if resp.StatusCode >= 400 {
		return answerError(d, resp.Status)
	}
	for {
		var line json.RawMessage
		if err := d.Decode(&line); err == io.EOF {
			return nil
		} else if ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			return failed("the server's answer was cut short: %v", err)
		}
		if err := streamError(line); err != nil {
			return err
		}
		if fn != nil {
			if err := fn(line); err != nil {
				return err
			}
		}
	}
}

// answerError makes the fault again that the handler answered with.
func answerError(d *json.Decoder, status string) error {
	var a admin.Failure
	if err := d.Decode(&a); err != nil || a.Error == "" {
		return failed("the server answered %s", status)
	}
	return a.Fault()
}

// streamError finds a failure in the middle of a stream, where no status can tell it.
func streamError(line json.RawMessage) error {
	if !bytes.HasPrefix(line, []byte(`{"error":`)) {
		return nil
	}
	var a admin.Failure
	if err := json.Unmarshal(line, &a); err != nil || a.Error == "" {
		return nil
	}
	return a.Fault()
}

// inProcess carries requests to a handler without a socket, streaming as one would.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	w := &pipedAnswer{header: make(http.Header), body: pw, started: make(chan struct{})}
	if req.Body == nil {
		req.Body = http.NoBody
	}
	go func() {
		t.handler.ServeHTTP(w, req)
		w.WriteHeader(http.StatusOK)
		pw.Close()
	}()
	<-w.started
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: pr, ContentLength: -1, Request: req,
	}, nil
}

// pipedAnswer is the ResponseWriter of inProcess; it is used by one goroutine.
type pipedAnswer struct {
	header  http.Header
	body    *io.PipeWriter
	status  int
	started chan struct{}
}

func (w *pipedAnswer) Header() http.Header { return w.header }
func (w *pipedAnswer) Flush()              {}

func (w *pipedAnswer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		close(w.started)
	}
}

func (w *pipedAnswer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
