package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// message is the report as mail (RFC 9990, Email; RFC 8460, 5.3).
func (f *file) message(to mail.Address, now time.Time) []byte {
	sum := sha256.Sum256(f.packed)
	boundary := "report-" + hex.EncodeToString(sum[:12])
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: %s", f.from)
	line("To: %s", to)
	line("Date: %s", now.Format(time.RFC1123Z))
	line("Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>", f.domain, f.from.Domain, f.id)
	line("Message-ID: <%s>", f.id)
	line("Auto-Submitted: auto-generated")
	kind, what := "application/gzip", "An aggregate report of DMARC (RFC 9990): who has sent mail\r\nin the name of "+f.domain
	if f.kind == TLS {
		line("TLS-Report-Domain: %s\r\nTLS-Report-Submitter: %s", f.domain, f.from.Domain)
		kind, what = "application/tlsrpt+gzip", "A TLS report (RFC 8460): how mail got over TLS to the hosts of\r\n"+f.domain
	}
	line("MIME-Version: 1.0")
	if f.kind == TLS {
		line("Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"%s\"", boundary)
	} else {
		line("Content-Type: multipart/mixed; boundary=\"%s\"", boundary)
	}
	line("\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n", boundary)
	line("%s\r\non %s UTC, as seen by %s.", what, f.day, f.from.Domain)
	if f.skipped > 0 {
		line("It leaves out %d of them, which were of too many kinds.", f.skipped)
	}
	line("\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64", boundary, kind)
	line("Content-Disposition: attachment;\r\n filename=\"%s\"\r\n", f.name)
	for text := base64.StdEncoding.EncodeToString(f.packed); text != ""; {
		n := min(len(text), 76)
		line("%s", text[:n])
		text = text[n:]
	}
	line("\r\n--%s--", boundary)
	return b.Bytes()
}
