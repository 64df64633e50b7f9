package peers

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// recorder stands between a client and the server and writes down what both say. With
// MARTLET_RECORD=DIR each client whose test asks for its address by `through` leaves
// DIR/CLIENT-1.txt and so on, a file for each connection. The opening conversations in
// internal/serve/imapd/testdata/client_*.txt are taken from there.
//
// It ends TLS with the server's own certificate, and takes the word COMPRESS=DEFLATE
// out of the capabilities, so that what follows can be read.
type recorder struct {
	dir, name string
	to        string
	mu        sync.Mutex
	count     int
}

// through returns the address of a listener: its own, or one of a recorder.
func (s *subject) through(t *testing.T, listener, client string) string {
	t.Helper()
	dir := os.Getenv("MARTLET_RECORD")
	if dir == "" || s.Server == nil {
		return s.addr(listener)
	}
	r := &recorder{dir: dir, name: client, to: s.addr("imap")}
	var l net.Listener
	var err error
	if listener == "imaps" {
		var cert tls.Certificate
		tlsDir := filepath.Join(s.Dir, "tls")
		if cert, err = tls.LoadX509KeyPair(filepath.Join(tlsDir, "cert.pem"), filepath.Join(tlsDir, "key.pem")); err == nil {
			l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		}
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.relay(c)
		}
	}()
	return l.Addr().String()
}

// relay hands on what both sides say until one of them ends.
func (r *recorder) relay(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.count++
	path := filepath.Join(r.dir, fmt.Sprintf("%s-%d.txt", r.name, r.count))
	r.mu.Unlock()
	log, err := os.Create(path)
	if err != nil {
		return
	}
	defer log.Close()
	done := make(chan bool, 2)
	go func() { r.lines(log, "C: ", server, client); done <- true }()
	go func() { r.lines(log, "S: ", client, server); done <- true }()
	<-done
}

// lines hands on bytes as soon as they come, and writes them down line by line.
func (r *recorder) lines(log io.Writer, who string, to io.Writer, from io.Reader) {
	in := bufio.NewReaderSize(from, 1<<16)
	var line []byte
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		chunk, _ := in.Peek(in.Buffered())
		in.Discard(len(chunk))
		chunk = bytes.Replace(chunk, []byte(" COMPRESS=DEFLATE"), nil, -1)
		if _, err := to.Write(chunk); err != nil {
			return
		}
		line = append(line, chunk...)
		r.mu.Lock()
		for {
			one, rest, found := bytes.Cut(line, []byte("\n"))
			if !found {
				break
			}
			fmt.Fprintf(log, "%s%s\n", who, strings.TrimRight(string(one), "\r"))
			line = rest
		}
		r.mu.Unlock()
	}
}
