package s3test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Fault is what becomes of one request. The zero value lets it pass.
type Fault struct {
	Status int    // answered instead, with an error of the protocol
	Code   string // of that error; "InternalError" or "SlowDown" if empty

	Lost bool          // the request is carried out, and its answer lost
	Cut  int64         // the connection breaks after so many bytes of the answer's body
	Held time.Duration // waits before it
	Hang bool          // neither carried out nor answered
	Flip bool          // a byte of the answer's body is another one
}

// Proxy stands in front of an object store and disturbs what Script tells it to.
type Proxy struct {
	target string
	server *httptest.Server
	client *http.Client
	ended  chan struct{}

	mu     sync.Mutex
	script func(r *http.Request) Fault
	seen   []string // "METHOD path" of all requests
}

// NewProxy returns a proxy in front of a server, which ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	p := &Proxy{target: s.address, client: &http.Client{Transport: &http.Transport{DisableCompression: true}}, ended: make(chan struct{})}
	p.server = httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.ended)
		p.server.CloseClientConnections()
		p.server.Close()
		p.client.CloseIdleConnections()
	})
	return p
}

// URL is its address.
func (p *Proxy) URL() string { return p.server.URL }

// Script has each request judged by fn, from any goroutine; nil lets all pass.
func (p *Proxy) Script(fn func(r *http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = fn
}

// First disturbs the next n requests with a method, "" being any.
func (p *Proxy) First(n int, method string, f Fault) {
	var mu sync.Mutex
	p.Script(func(r *http.Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if n <= 0 || method != "" && r.Method != method {
			return Fault{}
		}
		n--
		return f
	})
}

// Seen returns the requests since the last call, as "METHOD /path?query".
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

func (p *Proxy) judge(r *http.Request) (f Fault) {
	p.mu.Lock()
	script := p.script
	p.seen = append(p.seen, r.Method+" "+r.URL.RequestURI())
	p.mu.Unlock()
	if script != nil {
		f = script(r)
	}
	return f
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.judge(r)
	if f.Held > 0 || f.Hang {
		var after <-chan time.Time
		if !f.Hang {
			after = time.After(f.Held)
		}
		select {
		case <-after:
		case <-r.Context().Done():
			return
		case <-p.ended:
			return
		}
	}
	if f.Status > 0 {
		_, _ = io.Copy(io.Discard, r.Body)
		code := f.Code
		if code == "" {
			code = map[bool]string{true: "SlowDown", false: "InternalError"}[f.Status == http.StatusServiceUnavailable]
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>disturbed</Message></Error>`)
		return
	}
	p.forward(w, r, f)
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, f Fault) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL = &url.URL{Scheme: "http", Host: p.target, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	out.Host = r.Host // it is signed
	if r.ContentLength == 0 {
		out.Body = nil
	}
	answer, err := p.client.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	if f.Lost {
		_, _ = io.Copy(io.Discard, answer.Body)
		panic(http.ErrAbortHandler)
	}
	for k, v := range answer.Header {
		w.Header()[k] = v
	}
	if answer.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(answer.ContentLength, 10))
	}
	w.WriteHeader(answer.StatusCode)
	var body io.Reader = answer.Body
	if f.Cut > 0 {
		body = io.LimitReader(body, f.Cut)
	}
	if f.Flip {
		body = &flipped{body, false}
	}
	_, err = io.Copy(w, body)
	if f.Cut > 0 || err != nil {
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

// flipped changes the first byte.
type flipped struct {
	io.Reader
	done bool
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if n > 0 && !f.done {
		p[0] ^= 1
		f.done = true
	}
	return n, err
}
