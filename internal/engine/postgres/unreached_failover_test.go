package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// requestTLS is the code of a request for TLS.
const requestTLS = 80877103

// encryptedStandby is a standby that takes connections by TLS alone, and refuses others.
func encryptedStandby(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			go speakAsStandby(c, cfg)
		}
	}()
	return l.Addr().String()
}

// speakAsStandby answers one client.
func speakAsStandby(c net.Conn, cfg *tls.Config) {
	defer c.Close()
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	if binary.BigEndian.Uint32(head[4:]) != requestTLS {
		b := pgproto3.NewBackend(c, c)
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no pg_hba.conf entry, no encryption"})
		b.Flush()
		return
	}
	c.Write([]byte("S"))
	s := tls.Server(c, cfg)
	b := pgproto3.NewBackend(s, s)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	b.Flush()
	for {
		m, err := b.Receive()
		if err != nil {
			return
		}
		if _, ok := m.(*pgproto3.Query); ok {
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("transaction_read_only"), DataTypeOID: 25, DataTypeSize: -1}}})
			b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("on")}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			b.Flush()
		}
	}
}

// TestFailoverIsWaitedFor: servers that are standbys still, and refuse what is not encrypted, do
// not refuse for good; nor is one away and another that refuses a reason to give up.
func TestFailoverIsWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String()
	l.Close()
	for what, url := range map[string]string{
		"standbys": "postgres://martlet@" + encryptedStandby(t) + "," + encryptedStandby(t) + "/mail",
		"away":     "postgres://martlet@" + away + "," + encryptedStandby(t) + "/mail?sslmode=disable",
	} {
		o := options(url)
		o.Brief = true
		p, err := newPool(&o, &Stats{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.connect(t.Context(), 0); err == nil || !passes(err) {
			t.Errorf("%s: a call is not waited with: %v", what, err)
		}
		if err := p.prepareOnce(t.Context()); err == nil || !passes(err) {
			t.Errorf("%s: a start is not waited with: %v", what, err)
		}
		p.close()
	}
	// What was good once is waited for whatever it says.
	o := options("postgres://martlet@" + encryptedStandby(t) + "/mail?sslmode=disable")
	o.Brief = true
	p, err := newPool(&o, &Stats{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.connect(t.Context(), 0); passes(err) {
		t.Errorf("who was never let in waits: %v", err)
	}
	p.reached.Store(true)
	if _, err := p.connect(t.Context(), 0); !passes(err) {
		t.Errorf("who was let in once does not wait: %v", err)
	}
}
