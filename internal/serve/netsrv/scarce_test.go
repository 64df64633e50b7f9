package netsrv

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// A connection of another server that takes one of the last file descriptors is closed, as those
// of sessions are.
func TestListenerIsScarce(t *testing.T) {
	var scarce atomic.Bool
	s := New(Options{Scarce: func(net.Conn) bool { return scarce.Load() }})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for l := s.Listener(ln); ; {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- nc
		}
	}()
	scarce.Store(true)
	refused := dial(t, ln.Addr().String())
	refused.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is not closed: %v", err)
	}
	scarce.Store(false)
	dial(t, ln.Addr().String())
	(<-accepted).Close()
	if st := s.Stats(); st.Refused != 1 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

// flaky files cannot be read for a while, as without file descriptors.
type flaky struct {
	Files
	fails bool
	tries int
}

func (f *flaky) ReadFile(name string) ([]byte, error) {
	if f.tries++; f.fails {
		return nil, errors.New("too many open files")
	}
	return f.Files.ReadFile(name)
}

// A new certificate that could not be read at first is used once it can be.
func TestCertificateIsTriedAgain(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	disk := &flaky{Files: onDisk}
	files := writePair(t, dir, "one.test")
	certs, err := LoadCertificates(nil, func() time.Time { return now }, disk, files)
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		now = now.Add(time.Minute)
		cert, err := certs.Get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.Subject.CommonName
	}
	writePair(t, dir, "two.test")
	for _, f := range files {
		os.Chtimes(f, now.Add(time.Hour), now.Add(time.Hour))
	}
	disk.fails = true
	for range 3 {
		if got := name(); got != "one.test" {
			t.Fatal(got)
		}
	}
	disk.fails = false
	if got := name(); got != "two.test" {
		t.Errorf("the certificate of %s is used", got)
	}
	tries := disk.tries
	if name(); disk.tries != tries {
		t.Error("what has been read is read again")
	}
}

// So is a new revocation list.
func TestRevocationsAreTriedAgain(t *testing.T) {
	ours, now := newSigner(t), time.Now()
	file := filepath.Join(t.TempDir(), "crl.pem")
	void := ours.client(t, x509.ExtKeyUsageClientAuth, time.Time{})
	write(t, file, ours.list(t, 1))
	disk := &flaky{Files: onDisk}
	r, err := LoadRevocations(nil, func() time.Time { return now }, disk, file, []*x509.Certificate{ours.cert})
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, ours.list(t, 2, void))
	os.Chtimes(file, now.Add(time.Hour), now.Add(time.Hour))
	cert, err := x509.ParseCertificate(void.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	has := func() bool { now = now.Add(time.Minute); return r.Has(cert) }
	if disk.fails = true; has() {
		t.Fatal("it cannot be known")
	}
	if disk.fails = false; !has() {
		t.Error("the new list is not read")
	}
}
