package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/former"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/internal/move/roster"
)

func newImportDomainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "domain DOMAIN", Short: "Bring the mail of all accounts of a domain from its former IMAP server",
		Long: `Brings the mail of many accounts, several at a time. Whose, a list says (--csv); without one,
it is all accounts that the domain has here. How to log in there, the list says with a password
for each, or --master-user does for all: an account that may act for others, as Dovecot's
master users (by default as SASL PLAIN has it; USER*MASTER with --master-form suffix) and
Cyrus's proxy users.

The list is CSV (RFC 4180) with a header that names columns, in any order: address (or email,
username), user (what the account is called there; else its address), password (there), hash
(to log in with here), quota, active; others are passed over. Without a header they are
address, user, password or hash. Lines with # in front are comments.

With --create accounts that are not here are made. They are logged in to with the hash of the
list, else with its password; with neither they wait for their first login (migrate-from), or
get passwords that --passwords writes to a file of mode 0600 (the last line of an address counts).

It may be stopped at any moment, and run again as often as you like: it goes on where it was,
and brings nothing twice. What is wrong with one account stops no other. At the end every
message is read back and compared; --report keeps the proof of each account and of all. Passwords are
never printed, logged or stored in the clear. Nothing is changed at the former server.`,
		Example: `  martlet import domain example.org --from imaps://old.example --csv people.csv --create --plan
  martlet import domain example.org --from imaps://old.example --csv people.csv --create --report proof
  pass show chief | martlet import domain example.org --from imaps://old.example --master-user chief --master-password-stdin --parallel 8`,
		Args: arguments(1, 1), RunE: importDomain,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.String("from", "", "the former server: imaps://HOST[:PORT], or imap://HOST[:PORT] with STARTTLS (needed)")
	f.String("csv", "", "list of accounts; - is standard input")
	f.String("master-user", "", "log in as this user, for each account")
	f.Bool("master-password-stdin", false, "read the master user's password from standard input, its first line")
	f.String("master-form", "authzid", "how a master user logs in: authzid (SASL PLAIN), or suffix (USER*MASTER)")
	f.String("master-separator", "*", "what is between them in the form suffix")
	f.String("user", "address", "what accounts are called there, if the list does not say: address or localpart")
	f.Bool("create", false, "make accounts that are not here")
	f.String("passwords", "", "make passwords for new accounts that have none, and write them to this file")
	f.Int("parallel", 4, "accounts at a time")
	f.Bool("plan", false, "show what would be done, and change nothing")
	f.String("report", "", "folder for the proof: a file for each account, and one of all")
	f.String("ca", "", "PEM file with the authorities of the former server's certificate")
	f.Bool("insecure", false, "take any certificate there, and send passwords without TLS if there is none")
	f.Bool("no-proof", false, "do not read back what was brought")
	f.Bool("keep-uids", true, "messages keep their UIDs where a mailbox here never had one: programs that follow the server's name download nothing again")
	choiceFlags(f)
	return cmd
}

// domainMove is a move of a whole domain under way.
type domainMove struct {
	cmd    *cobra.Command
	domain string
	client *client
	choice move.Choice
	imap   imapc.Options
	master struct{ user, password, form, separator string }
	known  present
	memory int64 // that a hash may take
	local  bool  // accounts are called there by their local part
	create bool
	made   *os.File // new passwords are written there; nil: accounts wait

	folder string // of reports, or ""
	show   *domainShow
}

// moving is one account of it.
type moving struct {
	person  roster.Person
	address string
	user    string // there
	create  bool
	problem string // why nothing can be done for it; "": something can
	skip    bool   // nothing is to be done
}

func importDomain(cmd *cobra.Command, args []string) error {
	m, all, err := beginDomain(cmd, args[0])
	if err != nil {
		return err
	}
	defer m.client.close()
	parallel, _ := cmd.Flags().GetInt("parallel")
	if parallel < 1 || parallel > 64 {
		return misused("--parallel is 1 to 64, not %d", parallel)
	}
	if plan, _ := cmd.Flags().GetBool("plan"); plan {
		return m.plan(all, parallel)
	}
	if err := m.openFiles(); err != nil {
		return err
	}
	return m.bring(all, parallel)
}

// beginDomain reads flags and lists.
func beginDomain(cmd *cobra.Command, domain string) (*domainMove, []*moving, error) {
	m := &domainMove{cmd: cmd, domain: strings.ToLower(domain), show: newDomainShow(cmd)}
	f := cmd.Flags()
	m.create, _ = f.GetBool("create")
	m.folder, _ = f.GetString("report")
	switch user, _ := f.GetString("user"); user {
	case "address":
	case "localpart":
		m.local = true
	default:
		return nil, nil, misused("--user is address or localpart, not %q", user)
	}
	var err error
	if m.choice, err = importChoice(f, time.Now()); err != nil {
		return nil, nil, err
	}
	if err := m.readFrom(); err != nil {
		return nil, nil, err
	}
	if err := m.readMaster(); err != nil {
		return nil, nil, err
	}
	people, listed, err := m.readList()
	if err != nil {
		return nil, nil, err
	}
	cfg, _, err := loadConfig(cmd)
	if err != nil {
		return nil, nil, err
	}
	m.memory = int64(cfg.Limits.PasswordMemory)
	if m.client, err = connect(cmd, false); err != nil {
		return nil, nil, err
	}
	if m.known, err = whoIsHere(cmd.Context(), m.client); err == nil && !m.known.domains[m.domain] {
		err = failed("%s is not a domain of this server; make it one first: martlet domain add %s", domain, domain)
	}
	if err != nil {
		return nil, nil, errors.Join(err, m.client.close())
	}
	if !listed {
		people = m.everybody()
	}
	all := make([]*moving, len(people))
	for i, p := range people {
		all[i] = m.look(p)
	}
	return m, all, nil
}

// readFrom reads where the former server is, and what proves that it is it.
func (m *domainMove) readFrom() error {
	f := m.cmd.Flags()
	from, _ := f.GetString("from")
	if from == "" {
		return misused("--from is missing: the former server, such as imaps://old.example")
	}
	at, err := former.ParseServer(from)
	if err != nil {
		return misused("--from: %s", fault.Say(err))
	}
	ca, _ := f.GetString("ca")
	roots, _, err := authorities(conf.Path(ca))
	if err != nil {
		return failed("%s", describe(err))
	}
	m.imap = imapc.Options{
		Host: at.Host, Port: at.Port, Security: at.Security, Roots: roots, Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Version: thisBuild().Version,
	}
	m.imap.Insecure, _ = f.GetBool("insecure")
	return nil
}

// readMaster reads who logs in for all.
func (m *domainMove) readMaster() error {
	f := m.cmd.Flags()
	m.master.user, _ = f.GetString("master-user")
	m.master.form, _ = f.GetString("master-form")
	m.master.separator, _ = f.GetString("master-separator")
	fromStdin, _ := f.GetBool("master-password-stdin")
	list, _ := f.GetString("csv")
	switch {
	case m.master.user == "" && !fromStdin:
		return nil
	case m.master.user == "" || !fromStdin:
		return misused("--master-user and --master-password-stdin go together")
	case m.master.form != "authzid" && m.master.form != "suffix":
		return misused("--master-form is authzid or suffix, not %q", m.master.form)
	case list == "-":
		return misused("standard input cannot be both the list and the master user's password")
	}
	line, err := bufio.NewReader(io.LimitReader(m.cmd.InOrStdin(), maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return failed("cannot read the password from standard input: %v", err)
	}
	if m.master.password = strings.TrimRight(line, "\r\n"); m.master.password == "" {
		return misused("standard input holds no password; give the master user's as the first line")
	}
	return nil
}

// readList reads the list, if one is given.
func (m *domainMove) readList() (people []roster.Person, listed bool, err error) {
	path, _ := m.cmd.Flags().GetString("csv")
	if path == "" {
		if m.master.user == "" {
			return nil, false, misused("--csv or --master-user is needed: how else is one to log in there?")
		}
		return nil, false, nil
	}
	people, err = readRoster(m.cmd, path, roster.Reading{Form: roster.CSV, Domain: m.domain, Both: true})
	if err != nil {
		return nil, true, err
	}
	for _, p := range people {
		if !strings.EqualFold(p.Address.Domain, m.domain) {
			return nil, true, failed("line %d of the list: %s is not of %s", p.Line, p.Address, m.domain)
		}
	}
	return people, true, nil
}

// everybody are all accounts of the domain here.
func (m *domainMove) everybody() (people []roster.Person) {
	for address := range m.known.accounts {
		if a, err := mail.ParseAddress(address); err == nil && strings.EqualFold(a.Domain, m.domain) {
			people = append(people, roster.Person{Address: a})
		}
	}
	slices.SortFunc(people, func(a, b roster.Person) int { return strings.Compare(a.Address.Local, b.Address.Local) })
	return people
}

// look says what is to be done for somebody.
func (m *domainMove) look(p roster.Person) *moving {
	w := &moving{person: p, address: p.Address.String(), user: p.User}
	if w.user == "" {
		if w.user = w.address; m.local {
			w.user = p.Address.Local
		}
	}
	w.create = !m.known.accounts[lowered(w.address)]
	switch {
	case p.Skip != "":
		w.problem, w.skip = p.Skip, true
	case w.create && !m.create:
		w.problem = "there is no such account here; --create makes it"
	case m.master.user == "" && p.Password == "":
		w.problem = "the list has no password for it, and there is no --master-user to read its mail"
	case w.create && p.Hash != "":
		if n := judge(p, m.known, false, false, m.memory); n.Status == "refuse" {
			w.problem = n.Why
		}
	}
	return w
}

// credentials are those for one account.
func (m *domainMove) credentials(w *moving) imapc.Credentials {
	switch {
	case m.master.user == "":
		return imapc.Credentials{User: w.user, Password: w.person.Password}
	case m.master.form == "suffix":
		return imapc.Credentials{User: w.user + m.master.separator + m.master.user, Password: m.master.password}
	}
	return imapc.Credentials{User: m.master.user, Password: m.master.password, Authz: w.user}
}

// options are those of an account's import.
func (m *domainMove) options(w *moving) move.Options {
	waits := func(why string) { m.show.waits(w, why) }
	keep, _ := m.cmd.Flags().GetBool("keep-uids")
	o := move.Options{Choice: m.choice, Now: time.Now, Wait: importWait, Spool: spoolFile, Tell: func(e move.Event) { m.show.event(w, e) }}
	o.Target = m.client.account(w.address, waits)
	o.Open = func(context.Context) (move.Source, error) {
		return imapsource.New(imapsource.Options{
			IMAP: m.imap, User: w.user, Tell: waits, Wait: importWait, KeepUIDs: keep,
			Credentials: func(context.Context) (imapc.Credentials, error) { return m.credentials(w), nil },
		}), nil
	}
	return o
}

// openFiles makes the folder of reports and the file of new passwords.
func (m *domainMove) openFiles() error {
	if m.folder != "" {
		if err := os.MkdirAll(m.folder, 0o700); err != nil {
			return failed("cannot make the folder of reports: %v", err)
		}
	}
	name, _ := m.cmd.Flags().GetString("passwords")
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return failed("cannot write the file of passwords: %v", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = errors.New("others can read it; chmod 600 it, or give another name")
	}
	if err == nil && info.Size() == 0 {
		_, err = fmt.Fprintln(f, "address,password")
	}
	if err != nil {
		return failed("cannot write passwords to %s: %v", clean(name), errors.Join(err, f.Close()))
	}
	m.made = f
	return nil
}
