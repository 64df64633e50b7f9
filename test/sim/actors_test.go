package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// play lets an actor do what it has to do, until it is done or its connection is lost.
func (w *world) play(name string, a actor, h *house, d *drive) {
	time.Sleep(ms(a.At))
	if a.Kind == "sweep" {
		w.sweeping <- struct{}{} // two would wait for a lock
		defer func() { <-w.sweeping }()
		if _, err := h.store.Sweep(context.Background()); err != nil {
			w.logf("%s: sweep: %v", name, err)
		}
		if _, err := h.store.Purge(context.Background()); err != nil {
			w.logf("%s: purge: %v", name, err)
		}
		return
	}
	at := map[string]string{"smtp": atSMTP, "submit": atSubmission, "lmtp": atLMTP, "imap": atIMAP, "pop": atPOP}[a.Kind]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if a.TLS {
		at = map[string]string{"imap": atIMAPS, "pop": atPOPS}[a.Kind]
	}
	line, err := w.net.dial(ctx, name, at)
	if err != nil {
		w.logf("%s: no connection: %v", name, err)
		return
	}
	defer line.Close()
	var c net.Conn = line
	if a.TLS {
		c = tls.Client(line, &tls.Config{InsecureSkipVerify: true})
	}
	switch a.Kind {
	case "imap":
		err = w.reader(name, a, c)
	case "pop":
		err = w.collector(a, c)
	default:
		err = w.sender(name, a, c)
	}
	if err == nil {
		return
	}
	w.logf("%s: over: %v", name, err)
	if a.BreakIn+a.BreakOut == 0 && !d.isOver() && !d.isBroken() {
		w.wrong("%s: a session ended with power, network and disk in order: %v", name, err)
	}
}

// sender is a client of SMTP, LMTP or submission.
func (w *world) sender(name string, a actor, c net.Conn) error {
	s := &mailer{w: w, a: a, c: c, r: bufio.NewReaderSize(c, 512)}
	if code, err := s.reply(); err != nil || code != 220 {
		return fmt.Errorf("greeting %d, %w", code, err)
	}
	hello := "EHLO client.test"
	if a.Kind == "lmtp" {
		hello = "LHLO client.test"
	}
	if _, err := s.cmd(hello); err != nil {
		return err
	}
	if a.Kind == "submit" {
		plain := base64.StdEncoding.EncodeToString([]byte("\x00" + a.User + "@" + home + "\x00" + secret))
		if code, err := s.cmd("AUTH PLAIN " + plain); err != nil || code != 235 {
			return fmt.Errorf("login %d, %w", code, err)
		}
	}
	for i, op := range a.Ops {
		if err := s.mail(name+"m"+strconv.Itoa(i), strings.Fields(op)); err != nil {
			return err
		}
		time.Sleep(ms(a.Gap))
	}
	_, err := s.cmd("QUIT")
	return err
}

// mailer is one SMTP session of a client.
type mailer struct {
	w *world
	a actor
	c net.Conn
	r *bufio.Reader

	ahead bool // commands have been sent in one go; only answers are awaited
}

func (s *mailer) write(text string) error {
	_ = s.c.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(s.c, text)
	return err
}

func (s *mailer) reply() (code int, err error) {
	_ = s.c.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if len(line) < 4 {
			return 0, fmt.Errorf("answer %q", line)
		}
		if line[3] != '-' {
			code, err = strconv.Atoi(line[:3])
			if code/100 > 3 {
				s.w.logf("answer %s", strings.TrimSpace(line))
			}
			return code, err
		}
	}
}

func (s *mailer) cmd(line string) (code int, err error) {
	if !s.ahead {
		if err := s.write(line + "\r\n"); err != nil {
			return 0, err
		}
	}
	return s.reply()
}

// goAhead sends all commands of a message in one go (RFC 2920). It does not wait: with a
// small window the server must be rid of its answers before it reads on.
func (s *mailer) goAhead(from string, to []string) {
	lines := "MAIL FROM:" + address(from) + "\r\n"
	for _, r := range to {
		lines += "RCPT TO:" + address(r) + "\r\n"
	}
	s.ahead = true
	go func() { _ = s.write(lines + "DATA\r\n") }()
}

// skip reads the answers to commands that came too early. None may let a message begin.
func (s *mailer) skip(n int) error {
	defer func() { s.ahead = false }()
	for range n {
		code, err := s.reply()
		if err != nil {
			return err
		}
		if code/100 < 4 {
			s.w.wrong("answer %d, though there is no sender, or no recipient", code)
		}
	}
	return nil
}

// address writes who is meant.
func address(who string) string {
	switch {
	case who == "<>":
		return "<>"
	case strings.Contains(who, "@"):
		return "<" + who + ">"
	}
	return "<" + who + "@" + home + ">"
}

// mail sends one message: "mail FROM RCPTS SIZE HOW".
func (s *mailer) mail(token string, op []string) error {
	size, _ := strconv.Atoi(op[3])
	from, to, how := op[1], strings.Split(op[2], ","), op[4]
	text := s.w.ledger.write(token, from, to, size)
	if how == "piped" {
		s.goAhead(from, to)
	}
	code, err := s.cmd("MAIL FROM:" + address(from))
	if err != nil {
		return err
	}
	if code != 250 {
		if s.ahead {
			return s.skip(len(to) + 1)
		}
		return nil
	}
	var takes []string
	for _, r := range to {
		code, err := s.cmd("RCPT TO:" + address(r))
		if err != nil {
			return err
		}
		switch {
		case code == 250:
			takes = append(takes, r)
		case code/100 == 5 && r != "nobody" && s.a.Kind == "submit", code/100 == 5 && (r == "alice" || r == "bob" || r == "both"):
			s.w.wrong("%s: refused for good: %d", r, code)
		}
	}
	if len(takes) == 0 {
		if s.ahead {
			if err := s.skip(1); err != nil {
				return err
			}
		}
		_, err := s.cmd("RSET")
		return err
	}
	// From here on it may be taken without our knowing.
	return s.content(token, from, text, how, takes)
}

func (s *mailer) content(token, from, text, how string, takes []string) error {
	note := func(rcpt string, code int, err error) {
		switch {
		case err != nil:
			s.w.ledger.sent(token, from, rcpt, unknown)
			s.w.logf("%s for %s: nobody knows", token, rcpt)
		case code/100 == 2:
			s.w.ledger.sent(token, from, rcpt, yes)
			s.w.logf("%s for %s: taken", token, rcpt)
		default:
			s.w.ledger.sent(token, from, rcpt, no)
			if code/100 == 5 {
				s.w.wrong("%s for %s: refused for good: %d", token, rcpt, code)
			}
		}
	}
	err := s.transfer(text, how)
	code := 0
	for i, r := range takes {
		if err == nil && (i == 0 || s.a.Kind == "lmtp") {
			code, err = s.reply()
		}
		note(r, code, err)
	}
	return err
}

func (s *mailer) transfer(text, how string) error {
	if how == "bdat" {
		half := len(text) / 2
		if err := s.write(fmt.Sprintf("BDAT %d\r\n%s", half, text[:half])); err != nil {
			return err
		}
		if code, err := s.reply(); err != nil || code != 250 {
			return answered(code, err)
		}
		return s.write(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-half, text[half:]))
	}
	code, err := s.cmd("DATA")
	s.ahead = false
	if err != nil || code != 354 {
		return answered(code, err)
	}
	text = strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
	return s.write(text + ".\r\n")
}

func answered(code int, err error) error {
	if err == nil {
		err = fmt.Errorf("answer %d", code)
	}
	return err
}

// reader is a client of IMAP.
func (w *world) reader(name string, a actor, c net.Conn) error {
	s, err := w.openIMAP(a.User, c)
	if err != nil {
		return err
	}
	s.chatty, s.makes = true, true
	for i, op := range a.Ops {
		if err := s.act(name+"m"+strconv.Itoa(i), strings.Fields(op)); err != nil && err != errRefused {
			return err
		}
		time.Sleep(ms(a.Gap))
	}
	_, err = s.do("LOGOUT")
	if err == io.ErrUnexpectedEOF { // it was told BYE
		return nil
	}
	return err
}

func (s *imap) act(token string, op []string) error {
	if op[0] != "select" && op[0] != "append" && op[0] != "status" && s.box == nil {
		return nil
	}
	switch op[0] {
	case "select":
		if err := s.open(op[1], nil); err != nil {
			return err
		}
		if err := s.read(tokens); err != nil {
			return err
		}
		if s.exists == len(s.now.facts) { // else there is what it has yet to fetch
			s.w.ledger.remember(s.box, s.now)
		}
		return nil
	case "append":
		return s.append(token, op[1], op[2])
	case "idle":
		n, _ := strconv.Atoi(op[1])
		return s.idle(ms(n))
	case "status":
		_, err := s.do("STATUS %s (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)", op[1])
		return err
	}
	n, _ := strconv.Atoi(op[1])
	uid, token := s.pick(n)
	if uid == 0 {
		return nil
	}
	switch op[0] {
	case "flag":
		_, err := s.do("UID STORE %d %sFLAGS (%s)", uid, op[2], op[3])
		return err
	case "copy":
		return s.copy(uid, token, op[2])
	case "move":
		return s.move(uid, op[2])
	case "expunge":
		return s.expunge(uid, token)
	}
	return fmt.Errorf("no such op: %v", op)
}

// pick returns the n-th message whose token is known.
func (s *imap) pick(n int) (uid uint32, token string) {
	var known []uint32
	for _, uid := range slices.Sorted(maps.Keys(s.now.facts)) {
		if s.now.facts[uid].token != "" {
			known = append(known, uid)
		}
	}
	if len(known) == 0 {
		return 0, ""
	}
	uid = known[n%len(known)]
	return uid, s.now.facts[uid].token
}

func (s *imap) append(token, box, size string) error {
	n, _ := strconv.Atoi(size)
	text := s.w.ledger.write(token, s.user, []string{s.user}, n)
	lit := fmt.Sprintf("{%d+}", len(text))
	if len(text) > 4096 {
		lit = fmt.Sprintf("{%d}", len(text))
	}
	tag, err := s.send(fmt.Sprintf("APPEND %s (\\Draft) %s", box, lit))
	if err != nil {
		return err
	}
	if !strings.HasSuffix(lit, "+}") {
		for {
			line, literals, err := s.line()
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, "+") {
				break
			}
			if strings.HasPrefix(line, tag) { // there is no such mailbox
				return errRefused
			}
			if err := s.untagged(line, literals); err != nil {
				return err
			}
		}
	}
	_ = s.c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s.c, text+"\r\n"); err != nil {
		s.w.ledger.made(s.user, token, unknown)
		return err
	}
	answer, err := s.finish(tag)
	s.w.ledger.made(s.user, token, known(answer, err))
	s.w.logf("%s into %s of %s: %v", token, box, s.user, err)
	return err
}

// known is what an answer says of a change. A refusal that does not say that nothing was
// done leaves it open.
func known(answer string, err error) outcome {
	switch {
	case err == nil:
		return yes
	case err == errRefused && !strings.Contains(answer, "[SERVERBUG]") && !strings.Contains(answer, "[UNAVAILABLE]"):
		return no
	}
	return unknown
}

func (s *imap) copy(uid uint32, token, to string) error {
	answer, err := s.do("UID COPY %d %s", uid, to)
	if err == nil && !strings.Contains(answer, "[COPYUID ") {
		return nil // it was gone
	}
	s.w.ledger.made(s.user, token, known(answer, err))
	return err
}

func (s *imap) move(uid uint32, to string) error {
	s.w.ledger.begin(s.box, uid, "")
	_, err := s.do("UID MOVE %d %s", uid, to)
	return err
}

func (s *imap) expunge(uid uint32, token string) error {
	s.w.ledger.begin(s.box, uid, token)
	if _, err := s.do(`UID STORE %d +FLAGS (\Deleted)`, uid); err != nil {
		return err
	}
	b := s.box
	if _, err := s.do("UID EXPUNGE %d", uid); err != nil {
		return err
	}
	s.w.ledger.done(b, uid)
	return nil
}

func (s *imap) idle(d time.Duration) error {
	tag, err := s.send("IDLE")
	if err != nil {
		return err
	}
	end := time.AfterFunc(d, func() { _, _ = io.WriteString(s.c, "DONE\r\n") })
	defer end.Stop()
	for {
		line, literals, err := s.line()
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, tag):
			return nil
		case strings.HasPrefix(line, "+"):
		default:
			if err := s.untagged(line, literals); err != nil {
				return err
			}
		}
	}
}

// begin notes that somebody is about to move a message away, or, with a token, to expunge it.
func (l *ledger) begin(b *box, uid uint32, token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token == "" {
		b.moving[uid] = true
	} else {
		b.removing[uid] = token
	}
}

// done notes that an expunge was acknowledged.
func (l *ledger) done(b *box, uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.removed[uid] = true
}

// remember keeps what a client knows, for a later QRESYNC.
func (l *ledger) remember(b *box, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.facts = maps.Clone(s.facts)
	b.known = &s
}

// collector is a client of POP3.
func (w *world) collector(a actor, c net.Conn) error {
	r := bufio.NewReaderSize(c, 1024)
	cmd := func(line string) (string, error) {
		_ = c.SetDeadline(time.Now().Add(patience))
		if line != "" {
			if _, err := io.WriteString(c, line+"\r\n"); err != nil {
				return "", err
			}
		}
		s, err := r.ReadString('\n')
		return strings.TrimSpace(s), err
	}
	for _, line := range []string{"", "USER " + a.User + "@" + home, "PASS " + secret} {
		switch s, err := cmd(line); {
		case err != nil:
			return err
		case strings.Contains(s, "[IN-USE]"), strings.Contains(s, "[SYS/TEMP]"): // somebody else collects; the disk is full
			return nil
		case !strings.HasPrefix(s, "+OK"):
			return fmt.Errorf("answer %s", s)
		}
	}
	inbox := w.ledger.box(a.User, "INBOX")
	marked := map[uint32]bool{}
	for _, op := range a.Ops {
		verb, arg, _ := strings.Cut(op, " ")
		switch verb {
		case "drop":
			return nil
		case "quit":
			s, err := cmd("QUIT")
			if err == nil && strings.HasPrefix(s, "+OK") {
				for uid := range marked {
					w.ledger.done(inbox, uid)
				}
			}
			return err
		}
		uid, err := w.collect(arg, inbox, cmd, r)
		if err != nil {
			return err
		}
		if uid > 0 {
			marked[uid] = true
		}
		time.Sleep(ms(a.Gap))
	}
	return nil
}

// collect reads a message and marks it for deletion. Its UID is 0 if there was none, or
// if it is a report, which stays for the book.
func (w *world) collect(n string, inbox *box, cmd func(string) (string, error), r *bufio.Reader) (uid uint32, err error) {
	id, err := cmd("UIDL " + n)
	if err != nil || !strings.HasPrefix(id, "+OK") {
		return 0, err
	}
	id = id[strings.LastIndexByte(id, ' ')+1:]
	low, err := strconv.ParseUint(id[len(id)-8:], 16, 32)
	if err != nil {
		return 0, err
	}
	s, err := cmd("RETR " + n)
	if err != nil || !strings.HasPrefix(s, "+OK") {
		return 0, err
	}
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	m := readLetter(text.String())
	if m.report || m.token == "" {
		return 0, nil
	}
	w.ledger.whole(m)
	w.ledger.begin(inbox, uint32(low), m.token)
	s, err = cmd("DELE " + n)
	if err != nil || !strings.HasPrefix(s, "+OK") {
		return 0, err
	}
	return uint32(low), nil
}

// whole checks the bytes of a message that somebody has read.
func (l *ledger) whole(m letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why := l.damaged(m); why != "" {
		l.w.wrong("%s", why)
	}
}
