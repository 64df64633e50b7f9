package clock

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crypto "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
)

// client is an IMAP client on a pipe.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (h *house) dial() *client {
	ours, theirs := net.Pipe()
	h.running.Go(func() {
		h.net.ServeConn(context.Background(), theirs, netsrv.Service{Name: "imap", Handle: h.imap.Handle})
	})
	return &client{h.t, ours, bufio.NewReader(ours)}
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		c.t.Errorf("%s: %v", line, err)
	}
}

// hear reads to the line with a text.
func (c *client) hear(text string, within time.Duration) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(within))
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("no %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// A session that waits is told of new mail and is let wait for as long as before, whatever the
// clock does; nor does the clock keep it from being too long.
func TestIdleWhileTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		c := h.dial()
		defer c.Close()
		c.hear("OK", time.Second)
		c.say(`a LOGIN alice@` + domain + ` "` + password + `"`)
		c.hear("a OK", time.Second)
		c.say("b SELECT INBOX")
		c.hear("b OK", time.Second)
		c.say("c IDLE")
		c.hear("+", time.Second)
		for i, d := range append([]time.Duration{10 * year, -20 * year, 10 * year}, steps...) {
			h.clock.step(d)
			time.Sleep(time.Minute)
			if err := h.deliver(h.receive(token(i)), alice); err != nil {
				t.Fatal(err)
			}
			c.hear("EXISTS", time.Second)
		}
		h.clock.step(-10 * year)
		began := time.Now()
		_ = c.SetReadDeadline(began.Add(2 * time.Hour))
		for {
			if _, err := c.r.ReadString('\n'); err != nil {
				break
			}
		}
		if d := time.Since(began); d < 15*time.Minute || d > 35*time.Minute {
			t.Errorf("a silent session was ended after %v", d)
		}
	})
}

// Certificates are chosen anew from their files, and are valid or not, by the clock as it is.
func TestCertificatesWhileTheClockIsSet(t *testing.T) {
	fs, c := vfs.NewMem(), &clock{}
	put := func(name string, text []byte) {
		t.Helper()
		time.Sleep(2 * time.Millisecond) // another time of change
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	renew := func(serial int64) {
		cert, key := pair(t, serial)
		put("cert.pem", cert)
		put("key.pem", key)
	}
	renew(1)
	certs, err := netsrv.LoadCertificates(nil, c.now, disk.Files{FS: fs}, [2]string{"cert.pem", "key.pem"})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range append([]time.Duration{10 * year, -20 * year, 10 * year, 0}, steps...) {
		renew(int64(i) + 2)
		c.step(d)
		if d.Abs() < time.Second { // the files are looked at once a second
			c.step(time.Second)
		}
		got, err := certs.Get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		if n := got.Leaf.SerialNumber.Int64(); n != int64(i)+2 {
			t.Errorf("after a step of %v certificate %d is shown, %d lies there", d, n, i+2)
		}
	}
}

func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), crypto.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sample := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"mx." + domain}}
	der, err := x509.CreateCertificate(crypto.Reader, sample, sample, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
