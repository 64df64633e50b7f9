package peers

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// trust returns a client's TLS configuration that believes in the server's own
// authority.
func (s *subject) trust(t *testing.T) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", s.CA)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// goIMAP works through a mailbox with another parser of IMAP's grammar, which is
// strict about what it reads.
func goIMAP(t *testing.T, s *subject) {
	a := s.account(t, "goimap")
	exists := make(chan uint32, 100)
	opt := &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		}}}
	c, err := imapclient.DialInsecure(s.addr("imap"), opt)
	must(t, err)
	defer c.Close()
	must(t, c.Login(a.Address, a.Password).Wait())
	programs.add("go-imap client")
	must(t, c.Create("Go/Gr\u00fc\u00dfe", nil).Wait())
	must(t, c.Create("Go", nil).Wait(), "ALREADYEXISTS")
	list, err := c.List("", "Go/*", nil).Collect()
	must(t, err)
	if len(list) == 0 {
		t.Fatal("LIST gives nothing")
	}
	if len(list) != 1 || list[0].Mailbox != "Go/Gr\u00fc\u00dfe" || list[0].Delim != '/' {
		t.Fatalf("LIST gives %d mailboxes, the first %+v", len(list), *list[0])
	}
	goIMAPMessages(t, s, c, "Go/Gr\u00fc\u00dfe")
	goIMAPIdle(t, s, c, exists)
	must(t, c.Logout().Wait())
	if s.Server == nil {
		return
	}
	for name, dial := range map[string]func() (*imapclient.Client, error){
		"TLS":      func() (*imapclient.Client, error) { return imapclient.DialTLS(s.addr("imaps"), s.options(t)) },
		"STARTTLS": func() (*imapclient.Client, error) { return imapclient.DialStartTLS(s.addr("imap"), s.options(t)) },
	} {
		c, err := dial()
		must(t, err)
		must(t, c.Authenticate(sasl.NewPlainClient("", a.Address, a.Password)))
		sel, err := c.Select("INBOX", nil).Wait()
		must(t, err)
		if sel.UIDValidity == 0 || sel.UIDNext == 0 {
			t.Errorf("%s: SELECT gives %+v", name, sel)
		}
		must(t, c.Logout().Wait())
	}
}

func (s *subject) options(t *testing.T) *imapclient.Options {
	return &imapclient.Options{TLSConfig: s.trust(t)}
}

// must fails the test on an error, unless it has one of the words.
func must(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		return
	}
	for _, w := range words {
		if strings.Contains(err.Error(), w) {
			return
		}
	}
	t.Fatal(err)
}

func goIMAPMessages(t *testing.T, s *subject, c *imapclient.Client, box string) {
	var raws [][]byte
	for _, m := range letters() {
		if s.Server == nil && !strings.Contains(m.Name, "multipart-") {
			continue // of broken fields Dovecot makes a structure that this client refuses
		}
		if len(m.Data) > 0 && len(m.Data) < 100_000 && !m.NUL() && bytes.Equal(m.Data, m.Lines()) && len(raws) < 120 {
			raws = append(raws, m.Data)
		}
	}
	when := time.Date(2024, 3, 4, 10, 11, 12, 0, time.FixedZone("", 3600))
	for i, raw := range raws {
		w := c.Append(box, int64(len(raw)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Go"}, Time: when})
		_, err := w.Write(raw)
		must(t, err)
		must(t, w.Close())
		data, err := w.Wait()
		must(t, err)
		if data.UID != imap.UID(i+1) {
			t.Errorf("APPENDUID %d for message %d", data.UID, i+1)
		}
	}
	sel, err := c.Select(box, nil).Wait()
	must(t, err)
	if sel.NumMessages != uint32(len(raws)) {
		t.Fatalf("SELECT counts %d messages of %d", sel.NumMessages, len(raws))
	}
	all := imap.UIDSet{imap.UIDRange{Start: 1, Stop: 0}}
	whole := &imap.FetchItemBodySection{Peek: true}
	got, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, Envelope: true, InternalDate: true, RFC822Size: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	must(t, err)
	if len(got) != len(raws) {
		t.Fatalf("FETCH brings %d messages of %d", len(got), len(raws))
	}
	for i, m := range got {
		if b := m.FindBodySection(whole); !bytes.Equal(b, raws[i]) {
			t.Errorf("message %d came back different: %s", i+1, difference(raws[i], b))
		}
		if m.RFC822Size != int64(len(raws[i])) || !m.InternalDate.Equal(when) || len(m.Flags) < 2 || m.BodyStructure == nil || m.Envelope == nil {
			t.Errorf("message %d has size %d, date %v, flags %v", i+1, m.RFC822Size, m.InternalDate, m.Flags)
		}
	}
	goIMAPChanges(t, c, box, uint32(len(raws)))
}

func goIMAPChanges(t *testing.T, c *imapclient.Client, box string, n uint32) {
	found, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{"$Go"}, NotFlag: []imap.Flag{imap.FlagFlagged}}, nil).Wait()
	must(t, err)
	if len(found.AllUIDs()) != int(n) {
		t.Errorf("SEARCH finds %d of %d", len(found.AllUIDs()), n)
	}
	some := imap.UIDSet{imap.UIDRange{Start: 3, Stop: 12}}
	changed, err := c.Store(some, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Collect()
	must(t, err)
	if len(changed) != 10 {
		t.Errorf("STORE answers with %d messages, not 10", len(changed))
	}
	copied, err := c.Copy(some, "INBOX").Wait()
	must(t, err)
	if n, ok := copied.DestUIDs.Nums(); !ok || len(n) != 10 {
		t.Errorf("COPYUID names %v", copied.DestUIDs)
	}
	moved, err := c.Move(imap.UIDSet{imap.UIDRange{Start: 3, Stop: 5}}, "Trash").Wait()
	must(t, err)
	if moved.UIDValidity == 0 {
		t.Error("MOVE gives no COPYUID")
	}
	must(t, c.Store(some, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close())
	_, err = c.UIDExpunge(imap.UIDSet{imap.UIDRange{Start: 1, Stop: 8}}).Collect()
	must(t, err)
	status, err := c.Status(box, &imap.StatusOptions{NumMessages: true, UIDNext: true, NumUnseen: true}).Wait()
	must(t, err)
	if status.NumMessages == nil || status.NumUnseen == nil {
		t.Fatalf("STATUS gives %+v", status)
	}
	if *status.NumMessages != n-6 || status.UIDNext != imap.UID(n+1) || *status.NumUnseen != 0 {
		t.Errorf("STATUS gives %d messages, UIDNEXT %d, %d unseen", *status.NumMessages, status.UIDNext, *status.NumUnseen)
	}
	must(t, c.Rename(box, "Elsewhere", nil).Wait())
}

// goIMAPIdle waits in IDLE for a message that arrives over LMTP. It must be told by
// the time the delivery is acknowledged, give or take the way to the client.
func goIMAPIdle(t *testing.T, s *subject, c *imapclient.Client, exists chan uint32) {
	sel, err := c.Select("INBOX", nil).Wait()
	must(t, err)
	for len(exists) > 0 {
		<-exists
	}
	idle, err := c.Idle()
	must(t, err)
	time.Sleep(100 * time.Millisecond) // Idle returns when it has asked; the server must have begun
	arrive(t, s, "goimap", 1)
	select {
	case n := <-exists:
		if n != sel.NumMessages+1 {
			t.Errorf("IDLE tells of %d messages after %d", n, sel.NumMessages)
		}
	case <-time.After(10 * time.Second):
		t.Error("IDLE does not tell of a delivered message")
	}
	must(t, idle.Close())
	must(t, idle.Wait())
}

// goSMTP sends with another implementation of SMTP, over each port.
func goSMTP(t *testing.T, s *subject) {
	s.need(t, "smtp", "submission", "submissions")
	a := s.account(t, "gosmtp")
	programs.add("go-smtp client")
	for name, dial := range map[string]func() (*smtp.Client, error){
		"submission":  func() (*smtp.Client, error) { return smtp.DialStartTLS(s.addr("submission"), s.trust(t)) },
		"submissions": func() (*smtp.Client, error) { return smtp.DialTLS(s.addr("submissions"), s.trust(t)) },
		"smtp":        func() (*smtp.Client, error) { return smtp.Dial(s.addr("smtp")) },
	} {
		c, err := dial()
		must(t, err)
		if name != "smtp" {
			must(t, c.Auth(sasl.NewPlainClient("", a.Address, a.Password)))
		}
		m := note("gosmtp-"+name, ".\r\n..\r\nby go-smtp")
		for i, opt := range []*smtp.MailOptions{{Size: int64(len(m)), Body: smtp.Body8BitMIME}, {UTF8: true}, nil} {
			must(t, c.Mail(a.Address, opt))
			must(t, c.Rcpt(a.Address, &smtp.RcptOptions{}))
			must(t, c.Rcpt("nobody@martlet.test", nil), "550")
			w, err := c.Data()
			must(t, err)
			_, err = w.Write(m)
			must(t, err)
			must(t, w.Close())
			if i == 0 && !holds(t, s, "gosmtp", "INBOX", m) {
				t.Errorf("%s: what go-smtp sent is not there", name)
			}
		}
		err = c.Mail(a.Address, &smtp.MailOptions{Size: 1 << 40})
		if err == nil || !strings.Contains(err.Error(), "552") {
			t.Errorf("%s: a message of a terabyte is announced, and the answer is %v", name, err)
		}
		must(t, c.Quit())
	}
	goLMTP(t, s)
}

// goLMTP delivers to two recipients, of which one does not exist.
func goLMTP(t *testing.T, s *subject) {
	a := s.account(t, "gosmtp")
	conn := dial(t, s.addr("lmtp"))
	c := smtp.NewClientLMTP(conn.Conn)
	must(t, c.Hello("client.example"))
	must(t, c.Mail("x@example.org", nil))
	must(t, c.Rcpt(a.Address, nil))
	must(t, c.Rcpt("alice@martlet.test", nil))
	must(t, c.Rcpt("nobody@martlet.test", nil), "550")
	w, err := c.Data()
	must(t, err)
	fmt.Fprintf(w, "Subject: to two\r\n\r\nby LMTP\r\n")
	must(t, w.Close())
	must(t, c.Quit())
	for _, name := range []string{"gosmtp", "alice"} {
		if !holds(t, s, name, "INBOX", []byte("\r\n\r\nby LMTP\r\n")) {
			t.Errorf("%s did not get what was sent to two", name)
		}
	}
}
