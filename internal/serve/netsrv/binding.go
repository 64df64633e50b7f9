package netsrv

import (
	"crypto"
	_ "crypto/sha256" // the hashes endPoint asks for by number
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
)

// ChannelBinding returns the channel binding data of a type, or nil where the
// connection has none: "tls-exporter" under TLS 1.3 (RFC 9266), "tls-unique" under
// TLS 1.2 and "tls-server-end-point" under both (RFC 5929). A resumed session
// shows no certificate and so has no end point.
func (c *Conn) ChannelBinding(kind string) []byte {
	st, ok := c.TLS()
	if !ok || c.srv.opt.NoChannelBinding {
		return nil
	}
	switch kind {
	case "tls-exporter":
		if st.Version < tls.VersionTLS13 {
			return nil // unsafe below unless more is checked (RFC 9266, 4.2)
		}
		data, err := st.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err != nil {
			return nil
		}
		return data
	case "tls-unique":
		return st.TLSUnique // nil where it would be unsafe
	case "tls-server-end-point":
		if st.DidResume {
			return nil
		}
		return endPoint(c.raw.leaf)
	}
	return nil
}

// endPoint hashes the certificate as RFC 5929, 4.1 tells: with the hash of its
// signature, but never a weaker one than SHA-256. Signatures that name no hash have
// no end point.
func endPoint(cert *tls.Certificate) []byte {
	if cert == nil || len(cert.Certificate) == 0 {
		return nil
	}
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil
		}
	}
	var hash crypto.Hash
	switch leaf.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	case x509.PureEd25519, x509.UnknownSignatureAlgorithm:
		return nil
	default:
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(cert.Certificate[0])
	return h.Sum(nil)
}
