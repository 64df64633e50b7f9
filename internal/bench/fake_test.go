package bench

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a small mail server for these tests: it counts messages and remembers flags
// of none. It is as lenient as it can be.
type fake struct {
	mu       sync.Mutex
	boxes    map[string]int
	changed  map[string]bool // sequence sets of STORE since the last SELECT
	modseq   int
	idle     []chan int
	mails    []string // messages that came by LMTP or SMTP
	rcpts    int
	commands []string
	caps     string
	conns    int
	cert     *tls.Config
}

func newFake(t *testing.T) *fake {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &fake{boxes: map[string]int{"INBOX": 0}, changed: map[string]bool{}, modseq: 1,
		caps: "IMAP4rev1 LITERAL+ IDLE MULTIAPPEND UNSELECT SORT THREAD=REFERENCES CONDSTORE QRESYNC",
		cert: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
}

// trust returns what a client needs to trust the fake.
func (f *fake) trust() *tls.Config {
	pool := x509.NewCertPool()
	c, _ := x509.ParseCertificate(f.cert.Certificates[0].Certificate[0])
	pool.AddCert(c)
	return &tls.Config{RootCAs: pool}
}

// serve listens and returns the address.
func (f *fake) serve(t *testing.T, implicit bool, talk func(*fake, net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if implicit {
				c = tls.Server(c, f.cert)
			}
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
			go func() {
				defer c.Close()
				talk(f, c)
			}()
		}
	}()
	return ln.Addr().String()
}

// imap is one IMAP session.
func (f *fake) imap(c net.Conn) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	fmt.Fprint(w, "* OK fake\r\n")
	w.Flush()
	box := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		tag, command, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		f.note(command)
		switch verb, args, _ := strings.Cut(strings.TrimPrefix(command, "UID "), " "); verb {
		case "STARTTLS":
			fmt.Fprintf(w, "%s OK\r\n* OK injected\r\n", tag)
			w.Flush()
			c = tls.Server(c, f.cert)
			r, w = bufio.NewReader(c), bufio.NewWriter(c)
			continue
		case "CAPABILITY":
			fmt.Fprintf(w, "* CAPABILITY %s\r\n", f.caps)
		case "APPEND":
			if !f.append(r, w, args) {
				return
			}
		case "IDLE":
			f.wait(c, w)
			return
		default:
			box = f.answer(w, verb, args, box)
		}
		fmt.Fprintf(w, "%s OK\r\n", tag)
		w.Flush()
	}
}

func (f *fake) note(command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, command)
}

func (f *fake) append(r *bufio.Reader, w *bufio.Writer, args string) bool {
	name := strings.Split(args, `"`)[1]
	for {
		n := 0
		i := strings.LastIndex(args, "{")
		if i < 0 {
			return true
		}
		if n, _ = strconv.Atoi(strings.TrimRight(args[i+1:], "+}")); !strings.HasSuffix(args, "+}") {
			fmt.Fprint(w, "+ go\r\n")
			w.Flush()
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return false
		}
		f.mu.Lock()
		f.boxes[name]++
		f.mu.Unlock()
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		args = strings.TrimRight(line, "\r\n")
	}
}

// wait tells of new messages until the client goes away.
func (f *fake) wait(c net.Conn, w *bufio.Writer) {
	news := make(chan int, 100)
	f.mu.Lock()
	f.idle = append(f.idle, news)
	f.mu.Unlock()
	fmt.Fprint(w, "+ idling\r\n")
	w.Flush()
	go func() { c.Read(make([]byte, 1)); close(news) }()
	for n := range news {
		fmt.Fprintf(w, "* %d EXISTS\r\n", n)
		w.Flush()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = slices.DeleteFunc(f.idle, func(ch chan int) bool { return ch == news })
}

func (f *fake) answer(w *bufio.Writer, verb, args, box string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, rest, _ := strings.Cut(strings.TrimPrefix(args, `"`), `"`)
	n := f.boxes[box]
	switch verb {
	case "CREATE":
		f.boxes[name] = 0
	case "DELETE":
		delete(f.boxes, name)
	case "STATUS":
		fmt.Fprintf(w, "* STATUS %s (MESSAGES %d UNSEEN %d UIDVALIDITY 7 HIGHESTMODSEQ %d)\r\n", name, f.boxes[name], tenth(f.boxes[name]), f.modseq)
		f.changed = map[string]bool{}
	case "SELECT", "EXAMINE":
		if box = name; args == "INBOX" {
			box = args
		}
		fmt.Fprintf(w, "* %d EXISTS\r\n", f.boxes[box])
		if strings.Contains(rest, "QRESYNC") {
			f.fetch(w, len(f.changed), "")
		}
	case "STORE":
		set, _, _ := strings.Cut(args, " ")
		f.changed[set] = true
		f.modseq++
		if strings.HasSuffix(args, `+FLAGS (\Seen)`) {
			f.fetch(w, n, "")
		}
	case "FETCH":
		set, items, _ := strings.Cut(args, " ")
		low, _, _ := strings.Cut(set, ":")
		from, _ := strconv.Atoi(low)
		literal := ""
		if strings.Contains(items, "BODY.PEEK") {
			literal = "Subject: x\r\n\r\nb9 OK\r\n"
		}
		if strings.Contains(items, "CHANGEDSINCE") {
			n = len(f.changed)
		}
		f.fetch(w, n-from+1, literal)
	case "SEARCH":
		hits := 1
		if args == "UNSEEN" {
			hits = tenth(n)
		}
		fmt.Fprintf(w, "* SEARCH%s\r\n", strings.Repeat(" 1", hits))
	case "SORT", "THREAD":
		fmt.Fprintf(w, "* %s%s\r\n", verb, strings.Repeat(" 1", n))
	}
	return box
}

func (f *fake) fetch(w *bufio.Writer, n int, literal string) {
	for i := range n {
		if literal != "" {
			fmt.Fprintf(w, "* %d FETCH (BODY[] {%d}\r\n%s)\r\n", i+1, len(literal), literal)
		} else {
			fmt.Fprintf(w, "* %d FETCH (FLAGS ())\r\n", i+1)
		}
	}
}

// mail is one LMTP or SMTP session.
func (f *fake) mail(c net.Conn) {
	r := bufio.NewReader(c)
	io.WriteString(c, "220 fake\r\n")
	each, rcpts := false, 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
		case "LHLO", "EHLO":
			each = verb == "LHLO"
			io.WriteString(c, "250-fake\r\n250 PIPELINING\r\n")
		case "STARTTLS":
			io.WriteString(c, "220 go\r\n")
			c = tls.Server(c, f.cert)
			r = bufio.NewReader(c)
		case "MAIL":
			rcpts = 0
			io.WriteString(c, "250 ok\r\n")
		case "RCPT":
			rcpts++
			io.WriteString(c, "250 ok\r\n")
		case "DATA":
			io.WriteString(c, "354 go\r\n")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(line)
			}
			f.deliver(text.String(), rcpts)
			if !each {
				rcpts = 1
			}
			io.WriteString(c, strings.Repeat("250 stored\r\n", rcpts))
		default:
			io.WriteString(c, "250 ok\r\n")
		}
	}
}

func (f *fake) deliver(text string, rcpts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mails = append(f.mails, text)
	f.rcpts += rcpts
	f.boxes["INBOX"]++
	for _, ch := range f.idle {
		ch <- f.boxes["INBOX"]
	}
}

// look lets a test read what the server keeps, in one piece.
func (f *fake) look(read func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	read()
}
