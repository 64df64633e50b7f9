package peers

import (
	"bufio"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// thunderbird is the program with a profile of its own.
type thunderbird struct {
	*marionette
	t       *testing.T
	s       *subject
	profile string
	display string
	cmd     *exec.Cmd
	done    chan error
}

// thunderbirdPrefs keep the program from asking, and from asking others.
const thunderbirdPrefs = `user_pref("marionette.port", 0);
user_pref("app.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.inappnotifications.enabled", false);
user_pref("mail.biff.show_alert", false);
user_pref("mail.compose.big_attachments.notify", false);
user_pref("services.settings.server", "http://127.0.0.1:9/");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("extensions.blocklist.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
`

func newThunderbird(t *testing.T, s *subject) *thunderbird {
	t.Helper()
	tb := &thunderbird{t: t, s: s, profile: t.TempDir()}
	write(t, tb.profile, "user.js", thunderbirdPrefs)
	x := exec.Command("Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp")
	out, err := x.StdoutPipe()
	if err == nil {
		err = x.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.Process.Kill()
		x.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb opens no display: %v", err)
	}
	tb.display = ":" + strings.TrimSpace(line)
	return tb
}

// start starts the program and connects to it.
func (tb *thunderbird) start() {
	tb.t.Helper()
	active := filepath.Join(tb.profile, "MarionetteActivePort")
	os.Remove(active)
	log, err := os.OpenFile(filepath.Join(tb.profile, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.t.Fatal(err)
	}
	defer log.Close()
	tb.cmd = exec.Command("thunderbird", "-profile", tb.profile, "-no-remote", "-marionette", "-remote-allow-system-access")
	tb.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tb.cmd.Env = append([]string{"HOME=" + tb.profile, "DISPLAY=" + tb.display, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC"}, tb.env()...)
	tb.cmd.Stdout, tb.cmd.Stderr = log, log
	if err := tb.cmd.Start(); err != nil {
		tb.t.Fatal(err)
	}
	programs.add("thunderbird")
	pid, done := tb.cmd.Process.Pid, make(chan error, 1)
	tb.done = done
	go func() { done <- tb.cmd.Wait() }()
	tb.t.Cleanup(func() { syscall.Kill(-pid, syscall.SIGKILL) })
	var port []byte
	within(tb.t, time.Minute, "Thunderbird listens for commands", func() bool {
		port, _ = os.ReadFile(active)
		return len(port) > 0
	})
	tb.marionette = dialMarionette(tb.t, string(port))
	prelude, err := os.ReadFile("testdata/thunderbird.js")
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.prelude = string(prelude)
	tb.main()
}

// env makes it write what it says over IMAP, if anybody wants to read it.
func (tb *thunderbird) env() []string {
	if dir := os.Getenv("MARTLET_RECORD"); dir != "" {
		return []string{"MOZ_LOG=IMAP:4,timestamp,sync", "MOZ_LOG_FILE=" + filepath.Join(dir, "thunderbird-%PID")}
	}
	return nil
}

func (tb *thunderbird) main() { tb.window("messenger.xhtml") }

// quit ends the program as its menu does.
func (tb *thunderbird) quit() {
	tb.t.Helper()
	tb.do("Marionette:Quit", obj{"flags": []string{"eAttemptQuit"}})
	select {
	case <-tb.done:
	case <-time.After(time.Minute):
		tb.t.Fatal("Thunderbird does not end")
	}
	tb.conn.Close()
}

// addAccount makes what the account assistant makes, and keeps the password and the
// authority's certificate where the program keeps them.
func (tb *thunderbird) addAccount() {
	tb.t.Helper()
	raw, err := os.ReadFile(tb.s.CA)
	if err != nil {
		tb.t.Fatal(err)
	}
	ca, _ := pem.Decode(raw)
	if ca == nil {
		tb.t.Fatalf("%s holds no certificate", tb.s.CA)
	}
	a := tb.s.account(tb.t, "alice")
	tb.js(nil, `
		const [user, password, imap, smtp, ca] = args;
		Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(ca, "C,,");
		for (const at of ["imap://localhost", "smtp://localhost"]) {
			const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
			login.init(at, null, at, user, password, "", "");
			await Services.logins.addLoginAsync(login);
		}
		const server = MailServices.accounts.createIncomingServer(user, "localhost", "imap");
		server.port = imap;
		server.socketType = Ci.nsMsgSocketType.SSL;
		server.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
		server.prettyName = user;
		const out = MailServices.outgoingServer.createServer("smtp").QueryInterface(Ci.nsISmtpServer);
		out.hostname = "localhost";
		out.port = smtp;
		out.username = user;
		out.socketType = Ci.nsMsgSocketType.SSL;
		out.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
		MailServices.outgoingServer.defaultServer = out;
		const identity = MailServices.accounts.createIdentity();
		identity.email = user;
		identity.fullName = "Alice";
		identity.composeHtml = false;
		identity.smtpServerKey = out.key;
		const account = MailServices.accounts.createAccount();
		account.addIdentity(identity);
		account.incomingServer = server;
		MailServices.accounts.defaultAccount = account;
		server.valid = true;`,
		a.Address, a.Password, tb.s.Ports["imaps"], tb.s.Ports["submissions"], base64.StdEncoding.EncodeToString(ca.Bytes))
}
