package imapd

import (
	"fmt"
	"strings"
	"testing"
)

// TestAppendBinary: what comes as literal8 with NUL is stored so that BODY[] never
// sends NUL, and BINARY[] gives the bytes that came (RFC 3516, 4.4 and 6).
func TestAppendBinary(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{
		"login A",
		"A> 1 APPEND INBOX " + literal8("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\na\x00b\r\x00c"),
		"A< 1 OK [APPENDUID <<v>> 1] APPEND done",
		"select A INBOX",
		"A> 2 FETCH 1 (RFC822.SIZE BODY BODY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[1])",
		`A< * 1 FETCH (RFC822.SIZE 101 BODY ("image" "png" NIL NIL NIL "base64" 8) BODY[1] {8}`,
		"A< YQBiDQBj BINARY.SIZE[1] 6 BINARY[1] ~{6}",
		"A< a\x00b\r\x00c)",
		"A< 2 OK FETCH done",
		// Two in one change, one with text: its lines stay lines.
		"A> 3 APPEND INBOX " + literal8("X: 1\r\n\r\none\x00\r\ntwo") + " " + literal8("X: 2\r\n\r\nplain"),
		"A<< 3 OK [APPENDUID <<v>> 2:3] APPEND done",
		"A> 4 FETCH 2:3 BODY.PEEK[]",
		"A<< * 2 FETCH (BODY[] {83}",
		"A< X: 1",
		"A< MIME-Version: 1.0",
		"A< Content-Transfer-Encoding: quoted-printable",
		"A< ",
		"A< one=00",
		"A< two)",
		"A< * 3 FETCH (BODY[] {13}",
		"A< X: 2",
		"A< ",
		"A< plain)",
		"A<< 4 OK FETCH done",
		// NUL where nothing can be encoded: the message is refused, and the session
		// goes on.
		"A> 5 APPEND INBOX " + literal8("X: \x00\r\n\r\nx"),
		"A< 5 NO [UNKNOWN-CTE] ...",
		"A> 6 APPEND INBOX " + literal8("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nNUL \x00\r\n--b--\r\n"),
		"A< 6 NO [UNKNOWN-CTE] ...",
		"A> 7 STATUS INBOX (MESSAGES)",
		"A<< * STATUS INBOX (MESSAGES 3)",
		"A< 7 OK STATUS done",
	} {
		if err := w.step(line, nil); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
}

// literal8 is s, in the writing of transcripts, as a literal that the server need not
// ask for.
func literal8(s string) string {
	return fmt.Sprintf("~{%d+}\\r\\n", len(s)) + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(s)
}
