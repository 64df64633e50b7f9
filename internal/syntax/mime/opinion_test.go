package mime

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
)

// maker writes random well-formed messages.
type maker struct {
	r *rand.Rand
	n int // boundaries used
	b bytes.Buffer
}

func (m *maker) pick(s ...string) string { return s[m.r.IntN(len(s))] }

func (m *maker) entity(depth int) {
	kind := m.r.IntN(10)
	switch {
	case depth < 5 && kind < 4:
		m.n++
		boundary := fmt.Sprintf("=_%d.%s", m.n, m.pick("x", "long-boundary-with-a-tail", "b b"))
		fmt.Fprintf(&m.b, "Content-Type: multipart/%s;\r\n boundary=\"%s\"\r\n\r\n%s", m.pick("mixed", "alternative", "related"), boundary, m.pick("", "preamble\r\n"))
		for range 1 + m.r.IntN(4) {
			fmt.Fprintf(&m.b, "--%s\r\n", boundary)
			m.entity(depth + 1)
			m.b.WriteString("\r\n")
		}
		fmt.Fprintf(&m.b, "--%s--%s", boundary, m.pick("", "\r\nepilogue", "\r\n"))
	default:
		enc := m.pick("7bit", "base64", "quoted-printable", "8bit")
		fmt.Fprintf(&m.b, "Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\nContent-Disposition: %s\r\n\r\n",
			m.pick("text/plain; charset=utf-8", "text/html; charset=\"UTF-8\"", "application/pdf; name=\"a b.pdf\"", "image/png"), enc,
			m.pick("inline", "attachment; filename=x.y"))
		var body strings.Builder
		for range m.r.IntN(8) {
			body.WriteString(m.pick("word ", "--", "-- ", "\r\n", "é", "=", "--=_1", "."))
		}
		switch enc {
		case "base64":
			m.b.WriteString(encode(enc, []byte(body.String())))
		case "quoted-printable":
			m.b.WriteString(encode(enc, []byte(body.String())))
		default:
			m.b.WriteString(body.String())
		}
	}
}

// TestSecondOpinion compares the tree and the decoded bodies with what go-message
// reads from the same well-formed messages.
func TestSecondOpinion(t *testing.T) {
	for seed := range uint64(500) {
		mk := &maker{r: rand.New(rand.NewPCG(seed, 1))}
		mk.b.WriteString("Subject: x\r\nMIME-Version: 1.0\r\n")
		mk.entity(0)
		raw := mk.b.Bytes()
		m := parse(string(raw), Limits{})
		check(t, raw, m)
		var ours, theirs []string
		leaves(m.Root, nil, func(path []int, p *Part) {
			s := fmt.Sprint(path, p.Type, "/", p.Subtype, p.Disposition, p.Filename())
			if len(p.Children) == 0 {
				body, _ := io.ReadAll(NewDecoder(p.Encoding, bytes.NewReader(raw[p.Body:p.End])))
				s += string(body)
			}
			ours = append(ours, s)
		})
		e, err := message.Read(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		err = e.Walk(func(path []int, e *message.Entity, err error) error {
			if err != nil {
				return err
			}
			at := []int{}
			for _, n := range path {
				at = append(at, n+1)
			}
			typ, params, _ := e.Header.ContentType()
			disp, dparams, _ := e.Header.ContentDisposition()
			name := dparams["filename"]
			if name == "" {
				name = params["name"]
			}
			kind, sub, _ := strings.Cut(typ, "/")
			s := fmt.Sprint(at, kind, "/", sub, disp, name)
			if e.MultipartReader() == nil {
				body, err := io.ReadAll(e.Body)
				if err != nil {
					return err
				}
				s += string(body)
			}
			theirs = append(theirs, s)
			return nil
		})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, raw)
		}
		if !slices.Equal(ours, theirs) {
			t.Fatalf("seed %d\nours   %q\ntheirs %q\n%s", seed, ours, theirs, raw)
		}
	}
}

func leaves(p *Part, path []int, f func([]int, *Part)) {
	if path == nil {
		path = []int{}
	}
	f(path, p)
	for i, c := range p.Children {
		leaves(c, append(slices.Clone(path), i+1), f)
	}
}

// TestAddressSecondOpinion: what the standard library reads as an address list, we
// read alike.
func TestAddressSecondOpinion(t *testing.T) {
	seen := 0
	try := func(s string) {
		list, err := netmail.ParseAddressList(s)
		if err != nil {
			return
		}
		seen++
		ours := ParseAddressList(s)
		for i, a := range list {
			at := strings.LastIndexByte(a.Address, '@')
			want := Address{a.Name, a.Address[:at], a.Address[at+1:]}
			if len(ours) == len(list) {
				// They take no name from a comment, and put a space after a quote.
				if want.Name == "" && strings.Contains(s, "(") {
					want.Name = ours[i].Name
				}
				want.Name = strings.ReplaceAll(want.Name, " ", "")
				ours[i].Name = strings.ReplaceAll(ours[i].Name, " ", "")
			}
			if len(ours) != len(list) || ours[i] != want {
				t.Errorf("%q: ours %q, theirs %q", s, ours, list)
				return
			}
		}
	}
	for _, c := range addressTable {
		try(c.in)
	}
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b.c", "@", "<", ">", ",", " ", `"q r"`, "(c)", "x.test", ":", ";", "=?utf-8?q?=C3=A9?="}
	for range 200_000 {
		var b strings.Builder
		for range 1 + r.IntN(9) {
			b.WriteString(words[r.IntN(len(words))])
		}
		try(b.String())
	}
	if seen < 100 {
		t.Errorf("only %d lists were readable", seen)
	}
}

// TestDateSecondOpinion: what the standard library reads as a date, we read alike.
func TestDateSecondOpinion(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	seen := 0
	for range 20_000 {
		s := pick("Mon, ", "Tue,", "", "Mon ") + pick("1", "02", "31", "0", "32") + pick(" ", "  ", "") + pick("Jan", "Feb", "May", "Sept", "dec") +
			" " + pick("2024", "1999", "99", "24", "0024") + " " + pick("10:11:12", "1:02", "23:59:59", "24:00", "10:61:00") + " " +
			pick("+0000", "-0330", "GMT", "EST", "+0100 (CET)", "Z", "")
		want, err := netmail.ParseDate(s)
		if err != nil || want.Year() < 1900 {
			continue
		}
		seen++
		// A zone name is UTC to the standard library when it is not the local one.
		if got, ok := ParseDate(s); !ok || !got.Equal(want) && !strings.Contains(s, "EST") {
			t.Fatalf("%q: ours %v, theirs %v", s, got, want)
		}
	}
	if seen < 500 {
		t.Errorf("only %d dates were readable", seen)
	}
	if d, _ := ParseDate(time.RFC1123Z); d.Year() != 2006 {
		t.Errorf("the layout itself gave %v", d)
	}
}

// TestGolden compares envelope, structure and preview of testdata/*.eml with the
// files beside them, which were checked by hand.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d messages in testdata, %v", len(names), err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m := parse(string(raw), Limits{})
		got := fmt.Sprintf("envelope  %q\nstructure %q\nsubject   %q base %q\npreview   %q\ntree      %s\n",
			m.Envelope, m.BodyStructure, m.Subject, m.BaseSubject, m.Preview, outline(string(raw), m.Root))
		file := strings.TrimSuffix(name, ".eml") + ".want"
		if os.Getenv("MARTLET_GOLDEN") == "write" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}
