package smtp

import (
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
)

// ParseMail reads the argument of MAIL: "FROM:<path> parameters" (RFC 5321,
// 4.1.1.2). extended tells whether the client said EHLO; without it no parameter is
// known. An unknown parameter is answered with 555.
func ParseMail(arg string, extended bool) (m Mail, bad *Reply) {
	path, params, bad := cutPath(arg, "FROM:", extended)
	if bad != nil {
		return Mail{}, bad
	}
	for name, value := range params.all {
		if bad := m.set(name, value); bad != nil {
			return Mail{}, bad
		}
	}
	if path == "" {
		return m, nil
	}
	if m.From, bad = parsePath(path, m.UTF8, "5.1.7"); bad != nil {
		return Mail{}, bad
	}
	if m.From.Domain == "" {
		return Mail{}, refuse(501, "5.1.7", "sender address has no domain")
	}
	return m, nil
}

// set takes one parameter of MAIL.
func (m *Mail) set(name, value string) *Reply {
	ok := true
	switch name {
	case "SIZE": // RFC 1870, 3
		m.Size, ok = parseNumber(value)
	case "BODY": // RFC 6152, 2 and 3030, 3
		m.Body, ok = parseBody(value)
	case "SMTPUTF8": // RFC 6531, 3.4
		m.UTF8, ok = true, value == ""
	case "REQUIRETLS": // RFC 8689, 2
		m.RequireTLS, ok = true, value == ""
	case "RET": // RFC 3461, 4.3
		m.Ret, ok = parseRet(value)
	case "ENVID": // RFC 3461, 4.4
		m.EnvID, ok = decodeXtext(value)
		ok = ok && len(value) <= 100 && m.EnvID != ""
	case "AUTH": // RFC 4954, 5
		m.Auth, ok = decodeXtext(value)
		ok = ok && m.Auth != ""
	default:
		var known bool
		if known, ok = m.Ask.set(name, value); !known {
			return unknown(name)
		}
	}
	return checked(name, ok)
}

// ParseRcpt reads the argument of RCPT: "TO:<path> parameters" (RFC 5321, 4.1.1.3).
// utf8 tells whether MAIL had SMTPUTF8. <postmaster> without a domain gives an
// Address without one (RFC 5321, 4.5.1).
func ParseRcpt(arg string, extended, utf8 bool) (r mail.Recipient, bad *Reply) {
	path, params, bad := cutPath(arg, "TO:", extended)
	if bad != nil {
		return mail.Recipient{}, bad
	}
	for name, value := range params.all {
		if bad := setRcpt(&r, name, value, utf8); bad != nil {
			return mail.Recipient{}, bad
		}
	}
	if r.Address, bad = parsePath(path, utf8, "5.1.3"); bad != nil {
		return mail.Recipient{}, bad
	}
	return r, nil
}

// setRcpt takes one parameter of RCPT.
func setRcpt(r *mail.Recipient, name, value string, utf8 bool) *Reply {
	ok := true
	switch name {
	case "NOTIFY": // RFC 3461, 4.1
		r.Notify, ok = parseNotify(value)
	case "ORCPT": // RFC 3461, 4.2 and 6533, 3
		r.ORcpt, ok = parseORcpt(value, utf8)
	default:
		return unknown(name)
	}
	return checked(name, ok)
}

func unknown(name string) *Reply {
	return refuse(555, "5.5.4", "parameter "+clip(name)+" is not known here")
}

func checked(name string, ok bool) *Reply {
	if ok {
		return nil
	}
	return refuse(501, "5.5.4", "parameter "+name+" has a bad value")
}

// params are what follows a path, with names in upper case and each name once.
type params []string // name, value, name, value...

func (p params) all(yield func(name, value string) bool) {
	for i := 0; i < len(p); i += 2 {
		if !yield(p[i], p[i+1]) {
			return
		}
	}
}

// maxParams is more than all the parameters there are.
const maxParams = 16

func parseParams(s string, extended bool) (params, *Reply) {
	var p params
	for word := range strings.FieldsSeq(s) {
		name, value, hasValue := strings.Cut(word, "=")
		name = strings.ToUpper(name)
		if !isKeyword(name) || hasValue && value == "" {
			return nil, refuse(501, "5.5.4", "syntax error in parameters")
		}
		if !extended {
			return nil, unknown(name)
		}
		for earlier := range p.all {
			if earlier == name {
				return nil, refuse(501, "5.5.4", "parameter "+clip(name)+" is given twice")
			}
		}
		if p = append(p, name, value); len(p) > 2*maxParams {
			return nil, refuse(501, "5.5.4", "too many parameters")
		}
	}
	return p, nil
}

// isKeyword tells whether s is an esmtp-keyword (RFC 5321, 4.1.2).
func isKeyword(s string) bool {
	if s == "" || s[0] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func parseBody(value string) (Body, bool) {
	for i, name := range bodyNames {
		if i > 0 && strings.EqualFold(value, name) {
			return Body(i), true
		}
	}
	return 0, false
}

func parseRet(value string) (mail.Ret, bool) {
	switch strings.ToUpper(value) {
	case "FULL":
		return mail.RetFull, true
	case "HDRS":
		return mail.RetHeaders, true
	}
	return 0, false
}

var notifyNames = [...]struct {
	name string
	bit  mail.Notify
}{{"NEVER", mail.NotifyNever}, {"SUCCESS", mail.NotifySuccess}, {"FAILURE", mail.NotifyFailure}, {"DELAY", mail.NotifyDelay}}

func parseNotify(value string) (n mail.Notify, ok bool) {
	for word := range strings.SplitSeq(value, ",") {
		ok = false
		for _, known := range notifyNames {
			if strings.EqualFold(word, known.name) {
				n, ok = n|known.bit, true
			}
		}
		if !ok {
			return 0, false
		}
	}
	if n&mail.NotifyNever != 0 && n != mail.NotifyNever {
		return 0, false // NEVER stands alone
	}
	return n, ok
}

// AppendMail appends the MAIL command that says m, without CRLF. The caller leaves
// out of m what the peer does not offer.
func AppendMail(b []byte, m Mail) []byte {
	b = append(b, "MAIL FROM:<"...)
	b = append(b, m.From.String()...)
	b = append(b, '>')
	if m.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if m.Body != BodyDefault {
		b = append(append(b, " BODY="...), bodyNames[m.Body]...)
	}
	if m.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if m.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	switch m.Ret {
	case mail.RetFull:
		b = append(b, " RET=FULL"...)
	case mail.RetHeaders:
		b = append(b, " RET=HDRS"...)
	}
	if m.EnvID != "" {
		b = appendXtext(append(b, " ENVID="...), m.EnvID)
	}
	if m.Auth != "" {
		b = appendXtext(append(b, " AUTH="...), m.Auth)
	}
	return m.Ask.append(b)
}

// AppendRcpt appends the RCPT command that says r, without CRLF. dsn tells whether
// the peer offers DSN; utf8 whether MAIL had SMTPUTF8.
func AppendRcpt(b []byte, r mail.Recipient, dsn, utf8 bool) []byte {
	b = append(b, "RCPT TO:<"...)
	b = append(b, r.Address.String()...)
	b = append(b, '>')
	if !dsn {
		return b
	}
	sep := " NOTIFY="
	for _, known := range notifyNames {
		if r.Notify&known.bit != 0 {
			b = append(append(b, sep...), known.name...)
			sep = ","
		}
	}
	if r.ORcpt != "" {
		b = appendORcpt(append(b, " ORCPT="...), r.ORcpt, utf8)
	}
	return b
}
