package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// A gate that is closed ends the sessions behind it and sends away who comes, with a line of
// the protocol; nobody is refused a connection, and when it opens again all is as before.
func TestGate(t *testing.T) {
	for protocol, away := range map[conf.Protocol]string{"smtp": "421 4.3.2 ", "imap": "* BYE [UNAVAILABLE] ", "pop3": "-ERR [SYS/TEMP] ", "lmtp": "421 4.3.2 "} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(door{ln, conf.Listen{Protocol: protocol}})
		ended := make(chan struct{})
		go func() { g.accept(); close(ended) }()
		hears := func() string {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			return line
		}
		srv := netsrv.New(netsrv.Options{Grace: time.Second})
		service := netsrv.Service{Name: string(protocol), Handle: func(_ context.Context, c *netsrv.Conn) {
			_, _ = io.WriteString(c.W, "hello\r\n")
		}}
		for range 2 {
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			in := g.open()
			go func() { served <- srv.Serve(ctx, in, service) }()
			if got := hears(); got != "hello\r\n" {
				t.Errorf("%s: an open gate says %q", protocol, got)
			}
			stop()
			if err := <-served; err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
			if got := hears(); !strings.HasPrefix(got, away) || !strings.HasSuffix(got, "\r\n") {
				t.Errorf("%s: a closed gate says %q", protocol, got)
			}
		}
		ln.Close()
		<-ended
	}
}

// Over TLS nothing can be said, and the connection is closed.
func TestGateOverTLS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go newGate(door{ln, conf.Listen{Protocol: "imaps", TLS: conf.Implicit}}).accept()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}
