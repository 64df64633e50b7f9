package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestReplyAppend(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("word ", 200))
	tests := []struct {
		r    Reply
		want string
	}{
		{Reply{220, "", []string{"mx.test ESMTP"}}, "220 mx.test ESMTP\r\n"},
		{Reply{250, "", []string{"mx.test", "SIZE 1000", "PIPELINING"}}, "250-mx.test\r\n250-SIZE 1000\r\n250 PIPELINING\r\n"},
		{Reply{550, "5.7.1", []string{"no", "relaying"}}, "550-5.7.1 no\r\n550 5.7.1 relaying\r\n"},
		{Reply{550, "5.1.1", []string{"no\r\n250 such ü\x00"}}, "550 5.1.1 no??250 such ??\r\n"},
		{Reply{250, "2.0.0", nil}, "250 2.0.0 \r\n"},
	}
	for _, tt := range tests {
		if got := string(tt.r.Append(nil)); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.r, got, tt.want)
		}
	}
	folded := (&Reply{550, "5.7.1", []string{long}}).Append(nil)
	for line := range strings.SplitSeq(strings.TrimSuffix(string(folded), "\r\n"), "\r\n") {
		if len(line) > 510 {
			t.Errorf("line of %d bytes", len(line))
		}
	}
	if r, err := ReadReply(bufio.NewReader(bytes.NewReader(folded))); err != nil || r.Text() != long {
		t.Errorf("long text comes back as %v, %v", r, err)
	}
}

func TestReadReply(t *testing.T) {
	tests := []struct {
		in   string
		want Reply
		err  fault.Kind
	}{
		{"220 hi\r\n", Reply{220, "", []string{"hi"}}, 0},
		{"250\r\n", Reply{250, "", []string{""}}, 0},
		{"250 ok\n", Reply{250, "", []string{"ok"}}, 0},
		{"250-a\r\n250-b\r\n250 c\r\n", Reply{250, "", []string{"a", "b", "c"}}, 0},
		{"550-5.1.1 no\r\n550 5.1.1 user\r\n", Reply{550, "5.1.1", []string{"no", "user"}}, 0},
		{"550 5.1.1\r\n", Reply{550, "5.1.1", []string{""}}, 0},
		{"550 4.1.1 no\r\n", Reply{550, "", []string{"4.1.1 no"}}, 0},
		{"250 2.1 no\r\n", Reply{250, "", []string{"2.1 no"}}, 0},
		{"250 192.0.2.1 there\r\n", Reply{250, "", []string{"192.0.2.1 there"}}, 0},
		{"250 2.0.0.0 no\r\n", Reply{250, "", []string{"2.0.0.0 no"}}, 0},
		{"250-a\r\n251 b\r\n", Reply{}, fault.Invalid},
		{"hello\r\n", Reply{}, fault.Invalid}, {"\r\n", Reply{}, fault.Invalid}, {"25\r\n", Reply{}, fault.Invalid},
		{"250_ok\r\n", Reply{}, fault.Invalid}, {"150 ok\r\n", Reply{}, fault.Invalid}, {"650 ok\r\n", Reply{}, fault.Invalid},
		{"250 o\rk\r\n", Reply{}, fault.Invalid}, {"250 o\x00k\r\n", Reply{}, fault.Invalid},
		{"250 " + strings.Repeat("x", 10<<20) + "\r\n", Reply{}, fault.Limited},
		{strings.Repeat("250-x\r\n", 1_000_000), Reply{}, fault.Limited},
		{strings.Repeat("250-"+strings.Repeat("x", 4000)+"\r\n", 100), Reply{}, fault.Limited},
	}
	for _, tt := range tests {
		r, err := ReadReply(bufio.NewReader(strings.NewReader(tt.in)))
		switch {
		case tt.err != 0:
			if !fault.Is(err, tt.err) {
				t.Errorf("%.40q: %v, %v", tt.in, r, err)
			}
		case err != nil || !reflect.DeepEqual(*r, tt.want):
			t.Errorf("%.40q: %v, %v", tt.in, r, err)
		}
	}
	if _, err := ReadReply(bufio.NewReader(strings.NewReader("250-a\r\n"))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a reply: %v", err)
	}
	if _, err := ReadReply(bufio.NewReader(strings.NewReader(""))); err != io.EOF {
		t.Errorf("no reply: %v", err)
	}
}

func TestExtensions(t *testing.T) {
	r := Reply{Code: 250, Lines: []string{"SIZE is not a keyword here", "size 1000", "AUTH=LOGIN PLAIN", "AUTH PLAIN SCRAM-SHA-256", "8BITMIME"}}
	want := map[string]string{"SIZE": "1000", "AUTH": "PLAIN SCRAM-SHA-256", "8BITMIME": ""}
	if got := r.Extensions(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// FuzzReply reads anything; what it takes for a reply, written again, is read as
// the same and is a reply of one command, not of two.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-mx.test\r\n250-SIZE 1000\r\n250 DSN\r\n"))
	f.Add([]byte("550-5.7.1 no\r\n550 5.7.1 relaying\r\n"))
	f.Add([]byte("421\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ReadReply(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		out := bufio.NewReader(bytes.NewReader(r.Append(nil)))
		again, err := ReadReply(out)
		if err != nil || again.Code != r.Code || out.Buffered() > 0 {
			t.Fatalf("%q reads as %v, written again as %v, %v", in, r, again, err)
		}
		second, err := ReadReply(bufio.NewReader(bytes.NewReader(again.Append(nil))))
		if err != nil || !reflect.DeepEqual(again, second) {
			t.Fatalf("%v is not stable: %v, %v", again, second, err)
		}
	})
}
