package roster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// show writes people as a test reads them.
func show(all []Person) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%d %s|%s|%s|%s|%d|%s\n", p.Line, p.Address, p.User, p.Password, p.Hash, p.Quota, p.Skip)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ about, text, domain, want string }{
		{"nothing", "", "", ""},
		{"comments only", "# none\n\n", "", ""},
		{"addresses", "anna@old.test\nbert@old.test\n", "", "1 anna@old.test||||0|\n2 bert@old.test||||0|\n"},
		{"two columns", "anna@old.test,secret\r\nbert@old.test,{SHA}x\r\n", "", "1 anna@old.test||secret||0|\n2 bert@old.test|||{SHA}x|0|\n"},
		{"three columns", "anna@old.test,anna,\"a,\"\"b\"\nbert@old.test,bert,\ncarl@old.test,carl,$6$a$b\n", "", "1 anna@old.test|anna|a,\"b||0|\n2 bert@old.test|bert|||0|\n3 carl@old.test|carl||$6$a$b|0|\n"},
		{"spaces of a password stay", "anna@old.test,  two words \n", "", "1 anna@old.test||  two words ||0|\n"},
		{"header", "# from the old one\nHash,E-Mail,Quota,Source_User\n{SSHA}abc,anna@old.test,5000,a1\n", "", "3 anna@old.test|a1||{SSHA}abc|5000|\n"},
		{"byte order mark and semicolons", "\ufeffemail;password\nanna@old.test;secret\n", "", "2 anna@old.test||secret||0|\n"},
		{"mailcow, postfixadmin", "username,password,name,maildir,quota,local_part,domain,active\nanna@old.test,{BLF-CRYPT}$2y$05$x,\"Anna, A.\",old.test/anna/,1024,anna,old.test,1\nbert@old.test,$1$a$b,,x,0,bert,old.test,0\n", "",
			"2 anna@old.test|||{BLF-CRYPT}$2y$05$x|1024|\n3 bert@old.test|||$1$a$b|0|it is not active\n"},
		{"domain of names", "address,hash\nanna,{SHA}x\nbert@new.test,{SHA}y\n", "old.test", "2 anna@old.test|||{SHA}x|0|\n3 bert@new.test|||{SHA}y|0|\n"},
		{"passwd-file", "# users\nanna@old.test:{SHA512-CRYPT}$6$a$b:1000:1000::/home/anna::userdb_quota_rule=*:storage=2M\nbert@old.test:{PLAIN}x\n\ncarl@old.test:!$6$a$b:19000::\ndora@old.test::::::\neva@old.test:*:\n", "",
			"2 anna@old.test|anna@old.test||{SHA512-CRYPT}$6$a$b|2097152|\n3 bert@old.test|bert@old.test||{PLAIN}x|0|\n5 carl@old.test|carl@old.test|||0|it is locked\n6 dora@old.test|dora@old.test|||0|\n7 eva@old.test|eva@old.test|||0|it is locked\n"},
		{"shadow", "anna:$y$j9T$a$b:19000:0:99999:7:::\n", "old.test", "1 anna@old.test|anna||$y$j9T$a$b|0|\n"},
	} {
		all, err := Read(strings.NewReader(c.text), Reading{Domain: c.domain})
		if got := show(all); got != c.want || err != nil {
			t.Errorf("%s: %v\n%swant\n%s", c.about, err, got, c.want)
		}
	}
}

// The password of another server and the hash that is kept here may stand beside each other.
func TestReadBoth(t *testing.T) {
	all, err := Read(strings.NewReader("email,password,hash\na@b.test,{x}y,{SHA}z\nc@b.test,{SHA}y,\n"), Reading{Both: true})
	if got := show(all); got != "2 a@b.test||{x}y|{SHA}z|0|\n3 c@b.test|||{SHA}y|0|\n" || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"anna@old.test,secret\nANNA@old.test,x\n": "line 2: ANNA@old.test is in line 1, too",
		"anna,secret\n":                                "line 1: \"anna\" has no domain",
		"anna@old.test,a,b,c\n":                        "line 1: it has 4 columns",
		"anna@old.test,$argon2id$v=19$m=1,t=1,p=1$a$b": "what has commas in it needs quotes",
		"anna@old.test,\"topsecret\n":                  "line 1: it is not CSV",
		"anna@old.test,top\"secret\n":                  "line 1: it is not CSV",
		"email,hash\n@,x\n":                            "line 2: ",
		"email,hash\n,x\n":                             "line 2: there is no address",
		"email,mail\n":                                 "two columns of the header mean address",
		"login,password\nanna,topsecret\n":             "line 1: the header has no column for the address",
		"email,password,hash\na@b.test,topsecret,x\n":  "line 2: there are a password and a hash",
		"email,quota\na@b.test,much\n":                 "line 2: the quota",
		"anna@old.test,\"a\x00b\",topsecret\n":         "control characters",
		"anna@old.test,\xfftopsecret\n":                "UTF-8",
		"a:topsecret\nnobody\n":                        "line 1", // no domain
		"a@b.test:topsecret\nnobody\n":                 "line 2: it has no colon",
	} {
		all, err := Read(strings.NewReader(text), Reading{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, %v; want %q", text, show(all), err, want)
		}
	}
}

// FuzzRead: a list is refused with a line and without its secrets, or has people with
// addresses, each once; what is written of them as CSV is read as the same.
func FuzzRead(f *testing.F) {
	f.Add("anna@old.test,secret\n", "")
	f.Add("username;password;quota;active\nanna;{SHA}x;5;0\n", "old.test")
	f.Add("anna@old.test:{SHA}x:1::storage=5G\n#\nbert@old.test:!\n", "")
	f.Fuzz(func(t *testing.T, text, domain string) {
		all, err := Read(strings.NewReader(text), Reading{Domain: domain})
		if err != nil {
			if k := fault.Of(err); k != fault.Invalid && k != fault.TooLarge {
				t.Fatal(err)
			}
			return
		}
		seen := map[string]bool{}
		for _, p := range all {
			key := strings.ToLower(p.Address.String())
			if p.Address.Local == "" || p.Address.Domain == "" || seen[key] || p.Password != "" && p.Hash != "" || p.Quota < 0 || p.Line < 1 {
				t.Fatalf("%+v", p)
			}
			seen[key] = true
		}
	})
}
