// Package roster reads lists of people that are to get accounts: CSV as spreadsheets and
// databases write it, and password files as Dovecot and Unix have them.
//
// A list says for each who it is, what the account is called at another server, and a
// password or the hash of one. The package checks what a list says about itself, line by
// line; whether there is a domain, and whether a hash is any good, it does not know. No error
// quotes what is in a column for secrets. It opens no file.
//
// RFC 4180 (CSV); Dovecot's passwd-file; passwd(5), shadow(5).
package roster

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits of a list.
const (
	MaxBytes = 64 << 20
	MaxLines = 1_000_000
	maxLine  = 16 << 10
)

// Form is how a list is written.
type Form uint8

const (
	Guess  Form = iota // from its first line
	CSV                // columns between commas, or semicolons or tabs
	Passwd             // name:hash:..., as Dovecot's passwd-file
)

// Person is a line of a list. Of Password and Hash one is set at most, but for Reading.Both.
type Person struct {
	Line     int // in which it begins, from 1
	Address  mail.Address
	User     string // at the other server; "": not said
	Password string
	Hash     string
	Quota    int64  // bytes; 0: none said
	Skip     string // why the list itself says that there is to be no account; else ""
}

// Reading is how a list is to be read.
type Reading struct {
	Form   Form
	Domain string // of names that have none
	Both   bool   // a person may have both: the password that the other server takes, and a hash that is to be kept here
}

// Read reads a list. The first person that is wrong ends it: Invalid, with the line.
func Read(r io.Reader, how Reading) ([]Person, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "the list cannot be read", err)
	}
	if len(text) > MaxBytes {
		return nil, fault.Newf(fault.TooLarge, "the list is larger than %d MB", MaxBytes>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return nil, fault.New(fault.Invalid, "the list is not UTF-8; convert it first: iconv -f LATIN1 -t UTF-8")
	}
	form := how.Form
	if form == Guess {
		form = guess(text)
	}
	var all []Person
	if form == Passwd {
		all, err = readPasswd(text, &how)
	} else {
		all, err = readCSV(text, &how)
	}
	if err != nil {
		return nil, err
	}
	return all, once(all)
}

// once makes sure that nobody is in the list twice.
func once(all []Person) error {
	lines := map[string]int{}
	for _, p := range all {
		key := strings.ToLower(p.Address.String())
		if before := lines[key]; before > 0 {
			return wrong(p.Line, "%s is in line %d, too", p.Address, before)
		}
		lines[key] = p.Line
	}
	return nil
}

func wrong(line int, format string, args ...any) error {
	return fault.Newf(fault.Invalid, "line %d: %s", line, fmt.Sprintf(format, args...))
}

// firstLine is the first that is no comment.
func firstLine(text []byte) string {
	for line := range bytes.Lines(text) {
		if s := strings.TrimSpace(string(line)); s != "" && s[0] != '#' {
			return s
		}
	}
	return ""
}

// guess tells by the first line: a name and a colon before any other sign is a password file.
func guess(text []byte) Form {
	line := firstLine(text)
	if colon := strings.IndexByte(line, ':'); colon > 0 && !strings.ContainsAny(line[:colon], ",;\t\"") {
		return Passwd
	}
	return CSV
}

// person makes one of texts.
func person(line int, address, user, secret, hash string, how *Reading) (Person, error) {
	p := Person{Line: line, User: strings.TrimSpace(user), Hash: trimHash(hash)}
	address = strings.TrimSpace(address)
	if address == "" {
		return p, wrong(line, "there is no address")
	}
	if !strings.Contains(address, "@") {
		if how.Domain == "" {
			return p, wrong(line, "%q has no domain; say which with --domain", address)
		}
		address += "@" + how.Domain
	}
	var err error
	if p.Address, err = mail.ParseAddress(address); err != nil {
		return p, wrong(line, "%v", err)
	}
	if p.Address.Domain == "" {
		return p, wrong(line, "%q has no domain; say which with --domain", address)
	}
	switch {
	case secret == "":
	case p.Hash != "" && how.Both:
		p.Password = secret
	case p.Hash != "":
		return p, wrong(line, "there are a password and a hash")
	case IsHash(secret):
		p.Hash = trimHash(secret)
	default:
		p.Password = secret
	}
	for _, c := range p.User {
		if c < ' ' || c == 0x7f {
			return p, wrong(line, "the user name has control characters in it")
		}
	}
	return p, nil
}

// trimHash leaves spaces at the end: of {PLAIN} they are the password's.
func trimHash(text string) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return strings.TrimLeft(strings.TrimRight(text, "\r\n"), " \t")
}

// IsHash tells whether what stands in a column for passwords is a hash: it begins with a
// scheme in braces, with $ and a second $, or as Django's do. {PLAIN} in front makes any
// password one.
func IsHash(secret string) bool {
	secret = strings.TrimSpace(secret)
	if rest, ok := strings.CutPrefix(secret, "{"); ok {
		scheme, body, ok := strings.Cut(rest, "}")
		return ok && body != "" && scheme != "" && !strings.ContainsFunc(scheme, func(r rune) bool {
			return !(r == '-' || r == '.' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
		})
	}
	if strings.HasPrefix(secret, "$") {
		return strings.Count(secret, "$") >= 3
	}
	for _, p := range []string{"pbkdf2_sha1$", "pbkdf2_sha256$", "pbkdf2_sha512$", "argon2$argon2", "bcrypt$$2", "scrypt$", "SCRAM-SHA-"} {
		if strings.HasPrefix(secret, p) {
			return true
		}
	}
	return false
}

// readPasswd reads name:hash:uid:gid:gecos:home:shell:extra. Only the name and the hash count,
// and of the extra fields a quota.
func readPasswd(text []byte, how *Reading) (all []Person, err error) {
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, maxLine)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimRight(in.Text(), "\r")
		if s := strings.TrimSpace(line); s == "" || s[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			return nil, wrong(n, "it has no colon; a password file has name:hash")
		}
		hash, extra, _ := strings.Cut(rest, ":")
		p, err := person(n, name, name, "", hash, how)
		if err != nil {
			return nil, err
		}
		switch strings.TrimSpace(hash) {
		case "", "x":
			p.Hash = ""
		case "*", "!", "!!", "*LK*":
			p.Hash, p.Skip = "", "it is locked"
		}
		if strings.HasPrefix(p.Hash, "!") {
			p.Hash, p.Skip = "", "it is locked"
		}
		p.Quota = quotaRule(extra)
		if all = append(all, p); len(all) > MaxLines {
			return nil, fault.Newf(fault.TooLarge, "the list has more than %d lines", MaxLines)
		}
	}
	if in.Err() != nil {
		return nil, fault.Wrap(fault.Invalid, "a line of the list is longer than 16 KB", in.Err())
	}
	return all, nil
}

// quotaRule finds userdb_quota_rule=*:storage=5G or :bytes=5000000.
func quotaRule(extra string) int64 {
	for _, field := range strings.Fields(strings.ReplaceAll(extra, ":", " ")) {
		for _, name := range []string{"storage=", "bytes="} {
			text, ok := strings.CutPrefix(field, name)
			if !ok {
				continue
			}
			unit := int64(1)
			if name == "storage=" {
				unit = 1024
			}
			for i, letter := range []string{"K", "M", "G", "T"} {
				if number, ok := strings.CutSuffix(text, letter); ok {
					unit, text = int64(1024)<<(10*i), number
					break
				}
			}
			if n, err := strconv.ParseInt(text, 10, 40); err == nil && n > 0 && n < 1<<62/unit {
				return n * unit
			}
		}
	}
	return 0
}

// columns are the names that a header may have, in any case, and what is meant.
var columns = map[string]string{
	"address": "address", "email": "address", "e-mail": "address", "mail": "address", "mailbox": "address", "username": "address",
	"user": "user", "source_user": "user", "login": "user", "source": "user", "old_user": "user",
	"password": "password", "secret": "password", "pass": "password",
	"hash": "hash", "password_hash": "hash", "crypt": "hash",
	"quota": "quota", "quota_bytes": "quota", "active": "active", "enabled": "active",
}

// readCSV reads CSV with a header or without: then the columns are address, user, password or
// hash; of two columns address, password or hash.
func readCSV(text []byte, how *Reading) (all []Person, err error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment, r.FieldsPerRecord, r.ReuseRecord, r.Comma = '#', -1, true, comma(firstLine(text))
	var at map[string]int
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, csvError(err)
		}
		line, _ := r.FieldPos(0)
		if first {
			if at, err = header(line, row); err != nil {
				return nil, err
			}
			if at != nil {
				continue
			}
		}
		p, err := rowPerson(line, row, at, how)
		if err != nil {
			return nil, err
		}
		if all = append(all, p); len(all) > MaxLines {
			return nil, fault.Newf(fault.TooLarge, "the list has more than %d lines", MaxLines)
		}
	}
}

// csvError says where the form of CSV is broken, without what is there.
func csvError(err error) error {
	var e *csv.ParseError
	if errors.As(err, &e) {
		return wrong(e.StartLine, "it is not CSV (RFC 4180): %v in column %d", e.Err, e.Column)
	}
	return fault.Wrap(fault.Invalid, "the list is not CSV (RFC 4180)", err)
}

// comma is what separates the columns of a line.
func comma(line string) rune {
	for _, c := range ",;\t" {
		if strings.ContainsRune(line, c) {
			return c
		}
	}
	return ','
}

// header returns where the columns are, nil if the row is a person's.
func header(line int, row []string) (map[string]int, error) {
	if len(row) > 0 && strings.Contains(row[0], "@") {
		return nil, nil
	}
	at := map[string]int{}
	for i, name := range row {
		if meant := columns[strings.ToLower(strings.TrimSpace(name))]; meant != "" {
			if _, twice := at[meant]; twice {
				return nil, wrong(line, "two columns of the header mean %s", meant)
			}
			at[meant] = i
		}
	}
	if _, ok := at["address"]; ok {
		return at, nil
	}
	if len(at) > 1 {
		return nil, wrong(line, "the header has no column for the address (address, email or username)")
	}
	return nil, nil
}

// rowPerson reads a row. at is nil if there is no header.
func rowPerson(line int, row []string, at map[string]int, how *Reading) (Person, error) {
	if at == nil {
		switch len(row) {
		case 1:
			return person(line, row[0], "", "", "", how)
		case 2:
			return person(line, row[0], "", row[1], "", how)
		case 3:
			return person(line, row[0], row[1], row[2], "", how)
		}
		return Person{}, wrong(line, "it has %d columns, not one to three: address, user, password or hash; what has commas in it needs quotes", len(row))
	}
	field := func(name string) string {
		if i, ok := at[name]; ok && i < len(row) {
			return row[i]
		}
		return ""
	}
	p, err := person(line, field("address"), field("user"), field("password"), field("hash"), how)
	if err != nil {
		return p, err
	}
	if text := strings.TrimSpace(field("quota")); text != "" {
		if p.Quota, err = strconv.ParseInt(text, 10, 64); err != nil || p.Quota < 0 {
			return p, wrong(line, "the quota is not a number of bytes")
		}
	}
	switch strings.ToLower(strings.TrimSpace(field("active"))) {
	case "0", "no", "false", "f", "n":
		p.Skip = "it is not active"
	}
	return p, nil
}
