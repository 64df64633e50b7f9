package peers

import (
	"os/exec"
	"testing"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// foundServer is what Thunderbird has read of a server. The security is its nsMsgSocketType, the way to
// sign in its nsMsgAuthMethod.
type foundServer struct {
	Type, Hostname, Username string
	Port, SocketType, Auth   int
}

// TestThunderbirdSettings lets the real program look for the settings of a domain with the code
// of its account assistant. The names of the domain lead nowhere, so the program asks through
// the server as if that were its proxy for http.
func TestThunderbirdSettings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"thunderbird", "Xvfb"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not there: test/deps.sh could not install Debian's packages thunderbird and xvfb", name)
		}
	}
	s := start(t, martlet.Options{})
	tb := newThunderbird(t, s)
	tb.start()
	defer tb.quit()
	var got struct {
		Source             string
		Incoming, Outgoing foundServer
		MoreIn, MoreOut    []foundServer
	}
	tb.js(&got, `
		const [port, address] = args;
		const { FetchConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/FetchConfig.sys.mjs");
		const { AccountConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/AccountConfig.sys.mjs");
		Services.prefs.setIntPref("network.proxy.type", 1);
		Services.prefs.setCharPref("network.proxy.http", "127.0.0.1");
		Services.prefs.setIntPref("network.proxy.http_port", port);
		const find = domain => FetchConfig.fromISP(domain, address, new AbortController().signal);
		const config = await find("martlet.test");
		AccountConfig.replaceVariables(config, "A Name", address, "");
		const pick = s => ({ Type: s.type, Hostname: s.hostname, Username: s.username, Port: s.port, SocketType: s.socketType, Auth: s.auth });
		return {
			Source: String(config.source), Incoming: pick(config.incoming), Outgoing: pick(config.outgoing),
			MoreIn: config.incomingAlternatives.map(pick), MoreOut: config.outgoingAlternatives.map(pick),
		};`, s.Ports["http"], "nobody@martlet.test")
	const ssl, starttls, cleartext = 3, 2, 3 // of nsMsgSocketType and nsMsgAuthMethod
	server := func(kind, listener string, security int) foundServer {
		return foundServer{kind, "localhost", "nobody@martlet.test", s.Ports[listener], security, cleartext}
	}
	if got.Incoming != server("imap", "imaps", ssl) || got.Outgoing != server("smtp", "submissions", ssl) {
		t.Errorf("Thunderbird would use %+v and %+v", got.Incoming, got.Outgoing)
	}
	if len(got.MoreIn) != 3 || got.MoreIn[0] != server("imap", "imap", starttls) || got.MoreIn[1] != server("pop3", "pop3s", ssl) || got.MoreIn[2] != server("pop3", "pop3", starttls) {
		t.Errorf("Thunderbird knows of %+v, too", got.MoreIn)
	}
	if len(got.MoreOut) != 1 || got.MoreOut[0].Port != s.Ports["submission"] || got.MoreOut[0].SocketType != starttls {
		t.Errorf("Thunderbird knows of %+v for sending, too", got.MoreOut)
	}
	t.Logf("Thunderbird has the settings from %s", got.Source)
}
