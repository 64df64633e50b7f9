// Package postfix starts a private Postfix on loopback, from Debian's package, as the
// other mail server of tests.
//
// It takes mail for one domain, each message into a file of its own, and relays mail
// for one other domain to a given host and port. It takes nothing from /etc/postfix
// and leaves nothing outside the given directory. It needs root.
package postfix

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Options of New.
type Options struct {
	Dir         string
	Domain      string   // taken in here
	Users       []string // local parts that exist in Domain
	RelayDomain string   // relayed to RelayTo
	RelayTo     string   // host:port
	Certificate string   // PEM files; empty means no STARTTLS
	Key         string
	Hold        bool // what is accepted stays in the queue: nothing is delivered
}

// Server is a Postfix that may be started and stopped again and again.
type Server struct {
	Addr string // host:port
	Log  string
	PID  int
	opt  Options
	run  *process.Process // nil when it does not run
}

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/postfix.log
maillog_file_prefixes = %[1]s
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.%[2]s
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = %[2]s
virtual_mailbox_maps = texthash:%[1]s/etc/users
virtual_mailbox_base = %[1]s/mail
virtual_uid_maps = static:%[3]s
virtual_gid_maps = static:%[4]s
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 100000000
transport_maps = texthash:%[1]s/etc/transport
smtp_tls_security_level = may
smtp_tls_session_cache_database =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtputf8_enable = yes
strict_smtputf8 = no
line_length_limit = 2048
smtp_line_length_limit = 0
header_size_limit = 10000000
`

const tlsCF = `smtpd_tls_security_level = may
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
`

const holdCF = `smtpd_client_restrictions = check_client_access static:HOLD
`

const masterCF = `127.0.0.1:%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// Text returns the configuration of a server that holds what it accepts, with words in
// place of paths, ports and numbers, to be shown.
func Text(domain string) string {
	return "# main.cf\n" + fmt.Sprintf(mainCF, "DIR", domain, "UID", "GID") + holdCF +
		"\n# master.cf\n" + fmt.Sprintf(masterCF, "PORT")
}

// Version returns what the installed program calls itself, or "".
func Version() string {
	out, _ := exec.Command("postconf", "-dh", "mail_version").Output()
	return strings.TrimSpace(string(out))
}

// New writes the configuration; Start runs it.
func New(opt Options) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: l.Addr().String(), Log: filepath.Join(opt.Dir, "postfix.log"), opt: opt}
	l.Close()
	mail, err := user.Lookup("mail")
	if err != nil {
		return nil, err
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		return nil, fmt.Errorf("postfix: %w (Debian: apt-get install postfix)", err)
	}
	for sub, u := range map[string]*user.User{"etc": nil, "spool": nil, "lib": owner, "mail": mail} {
		path := filepath.Join(opt.Dir, sub)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
		if u == nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(path, uid, gid); err != nil {
			return nil, fmt.Errorf("postfix: needs root: %w", err)
		}
	}
	for d := opt.Dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // its daemons run as other users
	}
	return s, s.Configure(opt)
}

// Configure writes the configuration anew, with another relay host for example; the
// directory stays. It holds from the next Start.
func (s *Server) Configure(opt Options) error {
	opt.Dir = s.opt.Dir
	s.opt = opt
	mail, err := user.Lookup("mail")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	text := fmt.Sprintf(mainCF, s.opt.Dir, s.opt.Domain, mail.Uid, mail.Gid)
	if s.opt.Certificate != "" {
		text += fmt.Sprintf(tlsCF, s.opt.Certificate, s.opt.Key)
	}
	if s.opt.Hold {
		text += holdCF
	}
	var users strings.Builder
	for _, u := range s.opt.Users {
		fmt.Fprintf(&users, "%s@%s %s/\n", u, s.opt.Domain, u)
	}
	transport := ""
	if s.opt.RelayDomain != "" {
		host, relay, err := net.SplitHostPort(s.opt.RelayTo)
		if err != nil {
			return err
		}
		transport = fmt.Sprintf("%s smtp:[%s]:%s\n", s.opt.RelayDomain, host, relay)
	}
	for name, content := range map[string]string{"main.cf": text, "master.cf": fmt.Sprintf(masterCF, port),
		"users": users.String(), "transport": transport} {
		if err := os.WriteFile(filepath.Join(s.opt.Dir, "etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Start runs Postfix and returns when it greets.
func (s *Server) Start() error {
	etc := filepath.Join(s.opt.Dir, "etc")
	var err error
	if s.run, err = process.Start(exec.Command("postfix", "-c", etc, "start-fg"), s.greets); err != nil {
		log, _ := os.ReadFile(s.Log)
		return fmt.Errorf("postfix: %w%s", err, log)
	}
	s.PID = s.run.PID
	return nil
}

func (s *Server) greets() bool {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 3)
	n, _ := c.Read(b)
	c.Write([]byte("QUIT\r\n"))
	return string(b[:n]) == "220"
}

// Stop ends Postfix with all its processes. It may be called more than once.
func (s *Server) Stop() {
	if s.run == nil {
		return
	}
	exec.Command("postfix", "-c", filepath.Join(s.opt.Dir, "etc"), "stop").Run()
	s.run.Ended(8 * time.Second)
	s.run.Kill()
	s.run = nil
}

// Mail returns the messages that a user has got, oldest first, with the fields that
// Postfix puts in front.
func (s *Server) Mail(local string) ([][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(s.opt.Dir, "mail", local, "new", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	var out [][]byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
