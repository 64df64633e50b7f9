package cluster

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// Keys and bucket of the object store.
const (
	accessKey, secretKey = "martlet", "correct-horse-battery"
	bucket               = "mail"
)

// ObjectStore is versitygw on a machine, and a proxy of ours in front of it that can make
// it ill.
type ObjectStore struct {
	*lab.Host
	Program *Program

	ill    atomic.Pointer[illness]
	passed atomic.Int64 // requests
}

// illness is what the proxy does to requests.
type illness struct {
	status   int           // answered in place of everything
	delay    time.Duration // before each request
	truncate bool          // answers with bodies end in the middle
}

func (s *ObjectStore) start() error {
	data := filepath.Join(s.Dir, "objects")
	if err := os.MkdirAll(filepath.Join(data, bucket), 0o755); err != nil {
		return err
	}
	inside := s.IPv4.String() + ":7071"
	s.Program = &Program{Host: s.Host, Name: "versitygw", ready: s.Answers(inside),
		args: []string{gateway(), "--access", accessKey, "--secret", secretKey, "--port", inside, "posix", data}}
	if err := s.Program.Start(); err != nil {
		return err
	}
	in, err := s.Listen("tcp", s.IPv4.String()+":7070")
	if err != nil {
		return err
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: inside})
		r.Out.Host = r.In.Host // it is signed
	}}
	forward.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.DialContext(ctx, network, address)
	}, DisableCompression: true, ResponseHeaderTimeout: time.Minute}
	quiet := log.New(io.Discard, "", 0)
	forward.ErrorLog = quiet
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // as if nobody stood between
	web := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, forward) })}
	go web.Serve(in)
	return nil
}

func (s *ObjectStore) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	s.passed.Add(1)
	ill := s.ill.Load()
	switch {
	case ill == nil:
		forward.ServeHTTP(w, r)
	case ill.status != 0:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(ill.status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>made up</Message></Error>", map[int]string{500: "InternalError", 503: "SlowDown"}[ill.status])
	case ill.truncate && (r.Method == http.MethodGet || r.Method == http.MethodPut):
		forward.ServeHTTP(&cutter{ResponseWriter: w}, r)
	default:
		time.Sleep(ill.delay)
		forward.ServeHTTP(w, r)
	}
}

// Ill makes it ill; nil makes it well.
func (s *ObjectStore) Ill(i *illness) { s.ill.Store(i) }

// URL is where nodes reach it.
func (s *ObjectStore) URL() string { return "http://" + s.IPv4.String() + ":7070" }

// cutter ends an answer in the middle of its body; the connection ends with it. An answer
// without a body ends before it begins: the one who asked does not know what was done.
type cutter struct {
	http.ResponseWriter
	half, sent int64
}

func (c *cutter) WriteHeader(status int) {
	var n int64
	fmt.Sscan(c.Header().Get("Content-Length"), &n)
	if c.half = n / 2; c.half == 0 {
		panic(http.ErrAbortHandler)
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.sent+int64(len(b)) > c.half {
		c.ResponseWriter.Write(b[:c.half-c.sent])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.sent += int64(len(b))
	return c.ResponseWriter.Write(b)
}
