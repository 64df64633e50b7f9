package discoverworld

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// small is the world that all tests share; why says why there is none.
var (
	small *internet
	why   string
)

// internet is it, with its people.
type internet struct {
	*lab.World
	binary   string
	client   *lab.Host // who asks
	provider *lab.Host // whose mail and web servers are real

	mu      sync.Mutex
	sites   map[string]*site // by the name in the URL
	asked   []string         // of all sites
	secrets []string         // requests that brought a password
}

// site is what one name answers over HTTP and HTTPS.
type site struct {
	cert    *tls.Certificate
	handler http.HandlerFunc
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv("MARTLET_PEERS") == "" {
			why = "starts real programs; set MARTLET_PEERS=1"
			return m.Run()
		}
		if err := lab.Unable(); err != nil {
			why = "no small internet here: " + err.Error()
			return m.Run()
		}
		var err error
		if small, err = build(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer small.Close()
		return m.Run()
	}())
}

func world(t *testing.T) *internet {
	t.Helper()
	if small == nil {
		t.Skip(why)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(small.Logs(15))
		}
	})
	return small
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Addresses beside those of the hosts: web answers for all sites, hole is nobody's, and what
// is sent there is lost.
const (
	web  = "198.20.70.10" // of the provider
	hole = "198.20.79.1"
)

// build brings everybody into the world.
func build() (w *internet, err error) {
	w = &internet{sites: map[string]*site{}}
	if w.World, err = lab.New(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, w.Logs(10))
			w.Close()
		}
	}()
	if w.binary, err = lab.Build(w.Dir); err != nil {
		return nil, err
	}
	if err = w.DNS.AddZones(zones()...); err != nil {
		return nil, err
	}
	if w.client, err = w.Host("client.example", lab.Place{Number: 60, Only4: true}); err != nil {
		return nil, err
	}
	if w.provider, err = w.Host("mail.provider.example", lab.Place{Number: 70, Only4: true}); err != nil {
		return nil, err
	}
	// Who has this address on the wire is nobody: packets to it get lost, and no word of that.
	if _, err = w.client.Output("ip", "neigh", "add", hole, "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent"); err != nil {
		return nil, err
	}
	if err = w.mailServers(); err != nil {
		return nil, err
	}
	return w, w.webServers()
}

// guessable are names under which the real mail servers have a valid certificate.
var guessable = []string{
	"mail.provider.example", "imap.provider.example", "smtp.provider.example", "pop.provider.example",
	"imap.guess.example", "pop.guess.example", "smtp.guess.example", "imap.half.example", "smtp.half.example", "imap.mx-only.example", "mx.mx-only.example",
	"*.wild.example", "imap.wild-named.example", "smtp.wild-named.example",
}

// mailServers starts Dovecot and Postfix.
func (w *internet) mailServers() error {
	cert, err := w.CA.IssueRSA(24*time.Hour, guessable...)
	if err != nil {
		return err
	}
	h := w.provider
	dir := filepath.Join(h.Dir, "mail")
	for name, text := range map[string]string{
		"dovecot.conf": fmt.Sprintf(dovecotConf, dir, cert.File, cert.Key),
		"main.cf":      fmt.Sprintf(postfixMain, dir, cert.File, cert.Key),
		"master.cf":    postfixMaster,
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if _, err := h.Output("sh", "-ec", "mkdir -p "+dir+"/spool "+dir+"/data "+dir+"/home && chown postfix "+dir+"/data && chown mail "+dir+"/home && touch "+dir+"/postfix.log"); err != nil {
		return err
	}
	if _, err := h.Serve(h.Answers("127.0.0.1:993"), "dovecot", "-F", "-c", filepath.Join(dir, "dovecot.conf")); err != nil {
		return err
	}
	_, err = h.Serve(h.Greets("127.0.0.1:587"), "postfix", "-c", dir, "start-fg")
	return err
}

const dovecotConf = `protocols = imap pop3
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/../dovecot.log
ssl = yes
ssl_cert = <%[2]s
ssl_key = <%[3]s
mail_location = maildir:%[1]s/home/%%u
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
mail_max_userip_connections = 0
namespace inbox {
  inbox = yes
  separator = /
  mailbox Drafts {
    special_use = \Drafts
  }
  mailbox "Sent Items" {
    special_use = \Sent
  }
}
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=mail gid=mail home=%[1]s/home/%%u allow_all_users=yes
}
service auth {
  unix_listener %[1]s/auth {
    mode = 0666
  }
}
`

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/postfix.log
maillog_file_prefixes = %[1]s
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = all
inet_protocols = ipv4
myhostname = mail.provider.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
smtpd_tls_cert_file = %[2]s
smtpd_tls_key_file = %[3]s
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = %[1]s/auth
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
`

const postfixMaster = `smtp inet n - n - - smtpd
submission inet n - n - - smtpd
smtps inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

// webServers answer for all sites.
func (w *internet) webServers() error {
	in, err := w.provider.Listen("tcp", web+":443")
	if err != nil {
		return err
	}
	plain, err := w.provider.Listen("tcp", web+":80")
	if err != nil {
		return err
	}
	for name, s := range sites {
		if err := w.site(name, s); err != nil {
			return err
		}
	}
	quiet := &http.Server{Handler: http.HandlerFunc(w.serve), ErrorLog: log.New(io.Discard, "", 0)}
	go quiet.Serve(plain)
	go quiet.Serve(tls.NewListener(in, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.sites[hello.ServerName]; s != nil && s.cert != nil {
			return s.cert, nil
		}
		return nil, errors.New("nobody of that name")
	}}))
	return nil
}

// planned is a site before it has its certificate.
type planned struct {
	path string // of the one document; "": handler decides
	text string
	as   string // name in the certificate, if it is another; "-": there is none
	do   func(w *internet, rw http.ResponseWriter, r *http.Request)
}

func (w *internet) site(name string, p planned) error {
	s := &site{handler: func(rw http.ResponseWriter, r *http.Request) {
		if p.do != nil {
			p.do(w, rw, r)
			return
		}
		if r.URL.Path != p.path {
			http.NotFound(rw, r)
			return
		}
		rw.Write([]byte(p.text))
	}}
	if p.as != "-" {
		of := name
		if p.as != "" {
			of = p.as
		}
		cert, err := w.CA.Issue(24*time.Hour, of)
		if err != nil {
			return err
		}
		pair, err := tls.LoadX509KeyPair(cert.File, cert.Key)
		if err != nil {
			return err
		}
		s.cert = &pair
	}
	w.mu.Lock()
	w.sites[name] = s
	w.mu.Unlock()
	return nil
}

func (w *internet) serve(rw http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	w.mu.Lock()
	s := w.sites[host]
	w.asked = append(w.asked, r.Method+" "+r.Host+r.URL.RequestURI())
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		w.secrets = append(w.secrets, r.Host)
	}
	w.mu.Unlock()
	if s == nil || r.TLS != nil && s.cert == nil || r.TLS == nil && s.cert != nil && !strings.HasPrefix(host, "both.") {
		http.NotFound(rw, r)
		return
	}
	s.handler(rw, r)
}

// answer is what the command prints with --json.
type answer struct {
	code     int
	Domain   string
	Services []struct {
		Protocol, Host, Security, Username, Source, Confidence string
		Port                                                   int
		Insecure                                               bool
		Probe                                                  *struct {
			OK    bool
			Error string
		}
	}
	Notes []string
	Steps []struct {
		Step, Asked, Result string
		MS                  int64
		Found               int
	}
	text string
}

// of returns the best service of a protocol, in words.
func (a *answer) of(protocol string) string {
	for _, s := range a.Services {
		if s.Protocol == protocol {
			line := fmt.Sprintf("%s:%d %s %s %s", s.Host, s.Port, s.Security, s.Source, s.Confidence)
			if s.Insecure {
				line += " insecure"
			}
			return line
		}
	}
	return "none"
}

// result returns what came of a step.
func (a *answer) result(step string) string {
	var all []string
	for _, s := range a.Steps {
		if s.Step == step {
			all = append(all, s.Result)
		}
	}
	return strings.Join(all, "; ")
}

// discover runs the command as somebody at the client.
func (w *internet) discover(t *testing.T, args ...string) *answer {
	t.Helper()
	cmd := w.client.Command(w.binary, append([]string{"discover", "--json"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	a := &answer{text: out.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		a.code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if a.code == 1 || a.code == 2 {
		t.Fatalf("%v: exit code %d: %s", args, a.code, said.String())
	}
	if err := json.Unmarshal(out.Bytes(), a); err != nil {
		t.Fatalf("%v: %v\n%s\n%s", args, err, out.String(), said.String())
	}
	return a
}

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}
