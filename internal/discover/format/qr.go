package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"rsc.io/qr"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Words of the QR code of Thunderbird for Android, version 1.
const (
	qrIMAP, qrPOP3         = 0, 1
	qrSMTP                 = 0
	qrPassword, qrEncoded  = 1, 2
	qrOAuth2               = 6
	qrPlain, qrSTLS, qrTLS = 0, 2, 3
)

var qrSecurity = map[string]int{"none": qrPlain, discover.StartTLS: qrSTLS, discover.TLS: qrTLS}

var qrAuth = map[string]int{"password-cleartext": qrPassword, "password-encrypted": qrEncoded, "OAuth2": qrOAuth2}

// QR is what the QR code of an account says, which Thunderbird for Android reads ("Import
// from desktop"): servers, user names and the address, no password. name is the person's, ""
// for the address. Only ASCII is allowed in addresses. Faults: NotFound,
// Invalid, Unsupported.
func QR(a discover.Answer, name string) (string, error) {
	in, okIn := first(a, "imap", "pop3")
	out, okOut := first(a, "smtp")
	if !okIn || !okOut {
		return "", fault.New(fault.NotFound, "there is no server to read mail from, or none to send it with")
	}
	reader, err := user(a, in)
	if err != nil {
		return "", err
	}
	sender, err := user(a, out)
	if err == nil {
		err = oneLine(a.Address, name, reader, sender, in.Host, out.Host)
	}
	if err != nil {
		return "", err
	}
	if !isASCII(a.Address + in.Host + out.Host) {
		return "", fault.New(fault.Invalid, "the QR code of Thunderbird takes only addresses in ASCII")
	}
	readAuth, sendAuth := qrWay(in.Auth), qrWay(out.Auth)
	if readAuth < 0 || sendAuth < 0 {
		return "", fault.New(fault.Unsupported, "the QR code of Thunderbird cannot say how to sign in there")
	}
	kind := map[string]int{"imap": qrIMAP, "pop3": qrPOP3}[in.Protocol]
	return compact([]any{
		1, []any{1, 1},
		[]any{kind, in.Host, in.Port, qrSecurity[in.Security], readAuth, reader},
		[]any{[]any{
			[]any{qrSMTP, out.Host, out.Port, qrSecurity[out.Security], sendAuth, sender},
			[]any{a.Address, or(name, a.Address)},
		}},
	})
}

// qrWay is the best way to sign in that the code has a number for, or -1.
func qrWay(auth []string) int {
	for _, word := range configAuth(auth) {
		if n, ok := qrAuth[word]; ok {
			return n
		}
	}
	return -1
}

// compact writes JSON in few characters, all in ASCII: readers of QR codes guess how bytes of
// other letters are meant.
func compact(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", fault.Wrap(fault.Internal, "", err)
	}
	var ascii strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if r < utf8.RuneSelf {
			ascii.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&ascii, "\\u%04x", unit)
		}
	}
	return ascii.String(), nil
}

// Picture is a QR code.
type Picture struct{ code *qr.Code }

// Draw makes a QR code of a text. Faults: TooLarge.
func Draw(text string) (Picture, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return Picture{}, fault.Wrap(fault.TooLarge, "the account does not fit into a QR code", err)
	}
	return Picture{code}, nil
}

// quiet is the empty margin that readers need, in modules (ISO/IEC 18004).
const quiet = 4

// PNG returns the picture as PNG, eight points a module.
func (p Picture) PNG() []byte { return p.code.PNG() }

// SVG returns the picture as SVG, black on white, of any size.
func (p Picture) SVG() []byte {
	var b bytes.Buffer
	size := p.code.Size + 2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" width="%[2]d" height="%[2]d" shape-rendering="crispEdges"><rect width="%[1]d" height="%[1]d" fill="#fff"/><path fill="#000" d="`, size, 6*size)
	for y := range p.code.Size {
		for x := 0; x < p.code.Size; x++ {
			run := 0
			for x+run < p.code.Size && p.code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
				x += run
			}
		}
	}
	b.WriteString("\"/></svg>\n")
	return b.Bytes()
}

// Text draws the picture with characters, two modules each, for a screen with light letters
// on a dark ground; with colour it says itself which are which.
func (p Picture) Text(colour bool) string {
	var b strings.Builder
	const margin = 2 // a screen has one of its own
	begin, end := "", "\n"
	if colour {
		begin, end = "\x1b[97;40m", "\x1b[0m\n"
	}
	light := func(x, y int) bool { return !p.code.Black(x, y) }
	for y := -margin; y < p.code.Size+margin; y += 2 {
		b.WriteString(begin)
		for x := -margin; x < p.code.Size+margin; x++ {
			switch upper, lower := light(x, y), light(x, y+1); {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(end)
	}
	return b.String()
}
