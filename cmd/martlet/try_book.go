package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/store"
)

var noQuota store.Quota

// book is the file in which try keeps passwords across restarts, readable for its
// owner only.
type book struct {
	path     string
	Accounts []*entry `json:"accounts"`
}

// entry is one account of the book.
type entry struct {
	Address  string    `json:"address"`
	Password string    `json:"password"`
	Made     time.Time `json:"made"`
	Welcomed bool      `json:"welcomed"`
}

func (e *entry) address() (mail.Address, error) { return mail.ParseAddress(e.Address) }

// person is an account as the card shows it. Password is empty if it was changed since.
type person struct {
	Address  string `json:"address"`
	Password string `json:"password"`
}

func readBook(path string) (*book, error) {
	b := &book{path: path}
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return b, nil
	}
	if err == nil {
		err = json.Unmarshal(text, b)
	}
	if err != nil {
		return nil, failed("cannot read the passwords in %s: %v; repair the file, or remove it and set new passwords with: martlet account passwd", path, err)
	}
	return b, nil
}

func (b *book) write() error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "", err)
	}
	return writeFile(b.path, append(text, '\n'), 0o600)
}

// add returns the entry of an account, a new one with a new password if there is none.
// A name without a domain is of the try-out domain.
func (b *book) add(name string) (*entry, error) {
	if !strings.Contains(name, "@") {
		name += "@" + tryDomain
	}
	addr, err := mail.ParseAddress(name)
	if err != nil {
		return nil, misused("--account %s: %s", name, fault.Say(err))
	}
	for _, e := range b.Accounts {
		if have, err := e.address(); err == nil && have.Folded() == addr.Folded() {
			return e, nil
		}
	}
	pw, err := admin.NewPassword(rand.Reader)
	if err != nil {
		return nil, err
	}
	e := &entry{Address: addr.String(), Password: pw, Made: time.Now().UTC().Truncate(time.Second)}
	b.Accounts = append(b.Accounts, e)
	return e, nil
}

// person returns the account for the card.
func (e *entry) person(ctx context.Context, h *house) (person, error) {
	p := person{Address: e.Address, Password: e.Password}
	_, err := h.directory.Authenticate(ctx, e.Address, e.Password, netip.Addr{})
	if fault.Is(err, fault.Unauthenticated) {
		p.Password, err = "", nil
	}
	return p, err
}

// welcome delivers the first message of an account, once. It goes the road of all mail;
// if the process is killed before the book says so, the same message goes again, and
// delivery knows it.
func (b *book) welcome(ctx context.Context, h *house, e *entry) error {
	if e.Welcomed {
		return nil
	}
	addr, err := e.address()
	if err != nil {
		return err
	}
	msg, err := h.store.Receive(ctx, strings.NewReader(welcomeText(e)))
	if err != nil {
		return err
	}
	env := mail.Envelope{
		From: mail.Address{Local: "postmaster", Domain: tryDomain}, To: []mail.Recipient{{Address: addr, Notify: mail.NotifyNever}},
		Protocol: "LMTP", // each failure is told here, none waits
	}
	if err := h.receiver.Deliver(ctx, env, msg)[0].Err; err != nil {
		return err
	}
	e.Welcomed = true
	return b.write()
}

// welcomeText is the same for an entry whenever it is asked for.
func welcomeText(e *entry) string {
	at := e.Made.Format(time.RFC1123Z)
	name, _, _ := strings.Cut(e.Address, "@")
	text := fmt.Sprintf(`Received: from localhost by mail.%[1]s (Martlet) with LMTP id %[4]d.%[2]s; %[3]s
Date: %[3]s
From: Martlet <postmaster@%[1]s>
To: %[5]s
Subject: Welcome to Martlet
Message-ID: <welcome.%[4]d.%[2]s@%[1]s>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

Hello %[2]s,

this message came the way all mail comes: through the door for local delivery,
into your INBOX, and on disk before it was acknowledged.

Things to try:

- Open this mailbox in two programs at once and flag, move or delete this
  message in one of them; the other shows it at once.
- Send a message to the other account, or to %[2]s+anything@%[1]s.
- Stop the server in the middle of something, even with kill -9, start it
  again, and run "martlet verify".

Everything lies in one folder. Remove it, and nothing is left of this server.
`, tryDomain, name, at, e.Made.Unix(), e.Address)
	return strings.ReplaceAll(text, "\n", "\r\n")
}
