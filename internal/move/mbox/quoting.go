package mbox

import (
	"bytes"
	"fmt"
	"strings"
)

// Quoting is how lines of bodies that begin with "From " are kept from looking like From_ lines.
type Quoting uint8

const (
	Auto Quoting = iota // found out from the beginning of the file
	O                   // mboxo: ">" before them; lines that have one already are left alone
	RD                  // mboxrd: ">" before them and before those that have some already
	CL                  // mboxcl: as RD, and Content-Length says how long a body is
	CL2                 // mboxcl2: not at all, Content-Length says how long a body is
)

var quotings = [...]string{"auto", "mboxo", "mboxrd", "mboxcl", "mboxcl2"}

func (q Quoting) String() string { return quotings[q] }

// ParseQuoting reads the name of one.
func ParseQuoting(s string) (Quoting, error) {
	for i, name := range quotings {
		if s == name {
			return Quoting(i), nil
		}
	}
	return Auto, fmt.Errorf("--quoting is one of %s", strings.Join(quotings[:], ", "))
}

// unquote returns how many bytes a line of a body has too many at its beginning.
func (q Quoting) unquote(line []byte) int {
	if q == CL2 || len(line) == 0 || line[0] != '>' {
		return 0
	}
	i := 1
	for q != O && i < len(line) && line[i] == '>' {
		i++
	}
	if bytes.HasPrefix(line[i:], []byte("From ")) {
		return 1
	}
	return 0
}

// Detect finds out the quoting of a file from its beginning. Lengths count if those of the
// sample lead from one From_ line to the next. Then nothing was quoted if a body has a line
// that would have been, or if the writer was Dovecot, which never quotes. mboxo and mboxrd
// can be told apart only where a body has ">>From ": most writers of today mean mboxrd.
func Detect(sample []byte) Quoting {
	at := bytes.NewReader(sample)
	scan := NewScanner(bytes.NewReader(sample), at, CL2)
	with, good, bare, uid := 0, 0, 0, 0
	line := make([]byte, 0, 32<<10)
	for n := 0; n < 1000 && scan.Next(); n++ {
		line = line[:0]
		for len(line) < cap(line) {
			got, err := scan.Read(line[len(line):cap(line)])
			line = line[:len(line)+got]
			if err != nil {
				break
			}
		}
		if scan.length < 0 || scan.pos >= int64(len(sample)) && scan.left < 0 { // none, or cut by the end of the sample
			continue
		}
		with++
		if scan.left < 0 {
			continue
		}
		good++
		header, body, _ := bytes.Cut(line, []byte("\n\n"))
		if bytes.HasPrefix(body, []byte("From ")) || bytes.Contains(body, []byte("\nFrom ")) {
			bare++
		}
		if bytes.Contains(header, []byte("\nX-UID:")) || bytes.Contains(header, []byte("\nX-IMAP")) {
			uid++
		}
	}
	switch {
	case good == 0 || good*10 < with*9:
		return RD
	case bare > 0 || uid > 0:
		return CL2
	}
	return CL
}
