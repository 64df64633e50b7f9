package format

import (
	"bytes"
	"crypto"
	"crypto/sha1" // of names, no secret
	"crypto/x509"
	"encoding/xml"
	"fmt"

	"github.com/smallstep/pkcs7"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Mobileconfig writes a profile for Apple's devices: a mail account with IMAP, or with POP3 if
// pop is true or there is no IMAP, and SMTP. It holds no password; the device asks for it. The
// same answer gives the same profile, so that a newer one replaces it.
func Mobileconfig(a discover.Answer, p Provider, name string, pop bool) ([]byte, error) {
	kinds := []string{"imap", "pop3"}
	if pop {
		kinds = []string{"pop3", "imap"}
	}
	in, okIn := first(a, kinds...)
	out, okOut := first(a, "smtp")
	if !okIn || !okOut {
		return nil, fault.New(fault.NotFound, "there is no server to read mail from, or none to send it with")
	}
	for _, s := range []discover.Service{in, out} {
		if !takesPassword(s.Auth) {
			return nil, fault.Newf(fault.Unsupported, "%s takes no password, and a profile can say nothing else; add the account on the device, which asks how to sign in", s.Host)
		}
	}
	reader, err := user(a, in)
	if err != nil {
		return nil, err
	}
	sender, err := user(a, out)
	if err == nil {
		err = oneLine(a.Address, reader, sender, name, p.Name, in.Host, out.Host)
	}
	if err != nil {
		return nil, err
	}
	title := or(p.Name, or(a.Provider, a.Domain))
	kind := map[string]string{"imap": "EmailTypeIMAP", "pop3": "EmailTypePOP"}[in.Protocol]
	const reverse = "mail.martlet.profile."
	account := dict{
		{"PayloadType", "com.apple.mail.managed"}, {"PayloadVersion", 1},
		{"PayloadIdentifier", reverse + a.Address + ".mail"}, {"PayloadUUID", uuid("mail", in.Protocol, a.Address)},
		{"PayloadDisplayName", "Mail of " + a.Address},
		{"EmailAccountType", kind}, {"EmailAccountDescription", a.Address}, {"EmailAccountName", name}, {"EmailAddress", a.Address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"}, {"IncomingMailServerHostName", in.Host}, {"IncomingMailServerPortNumber", in.Port},
		{"IncomingMailServerUseSSL", in.Security != "none"}, {"IncomingMailServerUsername", reader},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"}, {"OutgoingMailServerHostName", out.Host}, {"OutgoingMailServerPortNumber", out.Port},
		{"OutgoingMailServerUseSSL", out.Security != "none"}, {"OutgoingMailServerUsername", sender},
		{"OutgoingPasswordSameAsIncomingPassword", true},
	}
	profile := dict{
		{"PayloadType", "Configuration"}, {"PayloadVersion", 1},
		{"PayloadIdentifier", reverse + a.Address}, {"PayloadUUID", uuid("profile", in.Protocol, a.Address)},
		{"PayloadDisplayName", title + " mail"}, {"PayloadOrganization", title},
		{"PayloadDescription", "Sets up mail for " + a.Address + ". You are asked for the password."},
		{"PayloadRemovalDisallowed", false}, {"PayloadContent", []dict{account}},
	}
	var b bytes.Buffer
	b.WriteString(xml.Header + `<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n<plist version=\"1.0\">\n")
	profile.write(&b)
	b.WriteString("</plist>\n")
	return b.Bytes(), nil
}

// dict is a dictionary of a property list, in order.
type dict []struct {
	key   string
	value any
}

func (d dict) write(b *bytes.Buffer) {
	b.WriteString("<dict>\n")
	for _, e := range d {
		fmt.Fprintf(b, "<key>%s</key>", e.key)
		switch v := e.value.(type) {
		case string:
			b.WriteString("<string>")
			_ = xml.EscapeText(b, []byte(v)) // a Buffer takes everything
			b.WriteString("</string>\n")
		case int:
			fmt.Fprintf(b, "<integer>%d</integer>\n", v)
		case bool:
			fmt.Fprintf(b, "<%t/>\n", v)
		case []dict:
			b.WriteString("<array>\n")
			for _, child := range v {
				child.write(b)
			}
			b.WriteString("</array>\n")
		}
	}
	b.WriteString("</dict>\n")
}

// uuid names something by what it is about (RFC 9562, 5.5, in a namespace of our own).
func uuid(parts ...string) string {
	h := sha1.New()
	fmt.Fprintf(h, "martlet mail profile %q", parts)
	s := h.Sum(nil)[:16]
	s[6], s[8] = s[6]&0x0f|0x50, s[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", s[:4], s[4:6], s[6:8], s[8:10], s[10:])
}

// Sign signs a profile (RFC 5652, with the profile inside), as devices want it. The chain
// begins with the certificate of the key.
func Sign(profile []byte, chain []*x509.Certificate, key crypto.PrivateKey) ([]byte, error) {
	if len(chain) == 0 {
		return nil, fault.New(fault.NotFound, "there is no certificate to sign with")
	}
	signed, err := pkcs7.NewSignedData(profile)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "the profile cannot be signed", err)
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := signed.AddSignerChain(chain[0], key, chain[1:], pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fault.Wrap(fault.Unsupported, "the certificate's key cannot sign a profile", err)
	}
	return signed.Finish()
}
