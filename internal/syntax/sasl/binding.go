package sasl

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/xdg-go/scram"
)

// Binding ties an exchange to the TLS connection it runs in (RFC 5056).
type Binding struct {
	Type string // "tls-exporter", "tls-server-end-point" or "tls-unique"
	Data []byte
}

// Bindings returns what a server can bind to: tls-exporter (RFC 9266) where the
// session has a unique secret, tls-server-end-point (RFC 5929, 4) if leaf, the
// certificate this server showed, is signed with a hash, and tls-unique (RFC 5929,
// 3) with TLS 1.2 only, where it is still what many clients know. leaf may be nil.
func Bindings(cs *tls.ConnectionState, leaf *x509.Certificate) []Binding {
	if cs == nil || !cs.HandshakeComplete {
		return nil
	}
	var all []Binding
	if b, err := scram.NewTLSExporterBinding(cs); err == nil {
		all = append(all, Binding{string(b.Type), b.Data})
	}
	if leaf != nil {
		mine := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		if b, err := scram.NewTLSServerEndpointBinding(mine); err == nil {
			all = append(all, Binding{string(b.Type), b.Data})
		}
	}
	if len(cs.TLSUnique) > 0 {
		all = append(all, Binding{string(scram.ChannelBindingTLSUnique), cs.TLSUnique})
	}
	return all
}
