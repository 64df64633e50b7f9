package imapc

import (
	"bufio"
	"context"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A server that does not answer DONE keeps nobody from stopping: the timeout of a minute is not
// waited for. Without the cut this test runs into the limit of Timeout, an hour.
func TestIdleIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	idling := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		io.WriteString(conn, "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] hi\r\n")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, "IDLE") {
				io.WriteString(conn, "+ idling\r\n")
				close(idling)
			} // and DONE is not heard
		}
	}()
	addr := l.Addr().(*net.TCPAddr)
	c, err := Dial(t.Context(), Options{Host: "127.0.0.1", Port: uint16(addr.Port), Security: OfferedTLS, Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-idling; cancel() }()
	if err := c.Idle(ctx, func(News) bool { return false }); err == nil || c.Dead() == nil {
		t.Error("the connection goes on:", err)
	}
	c.Close()
	<-done
}
