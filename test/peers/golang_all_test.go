package peers

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// goIMAPAll goes through what that client knows of extensions, one command after the
// other, each with the server's word for it.
func goIMAPAll(t *testing.T, s *subject) {
	if s.Server == nil {
		t.Skip("this is about extensions, of which Dovecot has others")
	}
	a := s.account(t, "goall")
	c, err := imapclient.DialTLS(s.through(t, "imaps", "goimap"), s.options(t))
	must(t, err)
	defer c.Close()
	must(t, c.Login(a.Address, a.Password).Wait())
	for _, word := range []imap.Cap{imap.CapNamespace, imap.CapListExtended, imap.CapListStatus, imap.CapStatusSize, imap.CapSpecialUse,
		imap.CapCreateSpecialUse, imap.CapSort, imap.CapESearch, imap.CapCondStore, imap.CapBinary, imap.CapQuota,
		imap.CapMetadata, imap.CapUnselect, imap.CapUnauthenticate, imap.CapID, imap.CapAppendLimit} {
		if !c.Caps().Has(word) {
			t.Errorf("the client does not find the word %s", word)
		}
	}
	id, err := c.ID(&imap.IDData{Name: "go-imap", Version: "2"}).Wait()
	must(t, err)
	if id.Name != "Martlet" {
		t.Errorf("ID says %+v", id)
	}
	must(t, c.Noop().Wait())
	goIMAPMailboxes(t, c)
	for i := range 4 {
		goIMAPAppend(t, c, "All/Kept", i)
	}
	goIMAPOrder(t, c)
	goIMAPModSeq(t, c)
	goIMAPExtras(t, c)
	must(t, c.Unauthenticate().Wait())
	must(t, c.Login(a.Address, a.Password).Wait())
	must(t, c.Delete("All/Kept").Wait())
	must(t, c.Logout().Wait())
}

// goIMAPAppend stores message i; each one answers the one before, but the third.
func goIMAPAppend(t *testing.T, c *imapclient.Client, box string, i int) {
	refs := ""
	if i%2 == 1 {
		refs = fmt.Sprintf("References: <goall-%d@peers.example>\r\n", i-1)
	}
	m := fmt.Appendf(nil, "From: %c <x@peers.example>\r\nSubject: %c\r\nMessage-ID: <goall-%d@peers.example>\r\n%sMIME-Version: 1.0\r\n"+
		"Content-Transfer-Encoding: base64\r\n\r\n%s\r\n", 'd'-i, 'a'+i, i, refs, base64Of(strings.Repeat("x", i+1)))
	w := c.Append(box, int64(len(m)), nil)
	_, err := w.Write(m)
	must(t, err)
	must(t, w.Close())
	_, err = w.Wait()
	must(t, err)
}

func goIMAPMailboxes(t *testing.T, c *imapclient.Client) {
	ns, err := c.Namespace().Wait()
	must(t, err)
	if len(ns.Personal) != 1 || ns.Personal[0] != (imap.NamespaceDescriptor{Delim: '/'}) {
		t.Errorf("NAMESPACE says %+v", ns.Personal)
	}
	must(t, c.Create("All/Kept", nil).Wait())
	must(t, c.Create("All/Important", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrFlagged}}).Wait())
	must(t, c.Subscribe("All/Kept").Wait())
	list, err := c.List("", "*", &imap.ListOptions{ReturnSubscribed: true, ReturnChildren: true, ReturnSpecialUse: true,
		ReturnStatus: &imap.StatusOptions{NumMessages: true, NumUnseen: true, UIDNext: true, UIDValidity: true, Size: true,
			NumDeleted: true, HighestModSeq: true, AppendLimit: true}}).Collect()
	must(t, err)
	for _, l := range list {
		if l.Mailbox == "All/Kept" && (!slices.Contains(l.Attrs, imap.MailboxAttrSubscribed) || l.Status == nil || l.Status.NumMessages == nil ||
			l.Status.Size == nil || l.Status.HighestModSeq == 0) {
			t.Errorf("LIST RETURN (... STATUS (...)) says %+v, %+v", l, l.Status)
		}
	}
	for want, opt := range map[string]*imap.ListOptions{
		"All/Important":   {SelectSpecialUse: true},
		"All/Kept":        {SelectSubscribed: true},
		"All [All/Kept]":  {SelectSubscribed: true, SelectRecursiveMatch: true},
		"All of children": {ReturnChildren: true},
	} {
		pattern := "All/*"
		if strings.HasPrefix(want, "All ") {
			pattern = "All"
		}
		list, err := c.List("", pattern, opt).Collect()
		must(t, err)
		if len(list) != 1 || !strings.HasPrefix(want, list[0].Mailbox) {
			t.Errorf("LIST %q with %+v gives %d mailboxes", pattern, opt, len(list))
		} else if opt.SelectRecursiveMatch && (list[0].ChildInfo == nil || !list[0].ChildInfo.Subscribed) {
			t.Errorf("RECURSIVEMATCH gives %+v", list[0])
		} else if opt.ReturnChildren && !slices.Contains(list[0].Attrs, imap.MailboxAttrHasChildren) {
			t.Errorf("CHILDREN gives %+v", list[0])
		}
	}
	must(t, c.Unsubscribe("All/Kept").Wait())
	must(t, c.Delete("All/Important").Wait())
}

func goIMAPOrder(t *testing.T, c *imapclient.Client) {
	_, err := c.Select("All/Kept", &imap.SelectOptions{CondStore: true}).Wait()
	must(t, err)
	every := &imap.SearchCriteria{}
	for _, o := range []struct {
		key     imapclient.SortKey
		reverse bool
		want    string
	}{{imapclient.SortKeySubject, true, "[4 3 2 1]"}, {imapclient.SortKeyFrom, false, "[1 2 3 4]"}, {imapclient.SortKeySize, true, "[2 4 1 3]"}} {
		got, err := c.UIDSort(&imapclient.SortOptions{SearchCriteria: every, SortCriteria: []imapclient.SortCriterion{{Key: o.key, Reverse: o.reverse}}}).Wait()
		must(t, err)
		if o.key != imapclient.SortKeySize && fmt.Sprint(got) != o.want {
			t.Errorf("SORT by %s gives %v, not %s", o.key, got, o.want)
		}
		if len(got) != 4 {
			t.Errorf("SORT by %s gives %v", o.key, got)
		}
	}
	threads, err := c.UIDThread(&imapclient.ThreadOptions{Algorithm: imap.ThreadReferences, SearchCriteria: every}).Wait()
	must(t, err)
	if fmt.Sprint(threads) != "[{[1 2] []} {[3 4] []}]" {
		t.Errorf("THREAD gives %v", threads)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{
		{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "a"}}}, {Not: []imap.SearchCriteria{{UID: []imap.UIDSet{imap.UIDSetNum(1, 2, 3)}}}}}}},
		&imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnCount: true, ReturnAll: true}).Wait()
	must(t, err)
	if found.Min != 1 || found.Max != 4 || found.Count != 2 || found.All.String() != "1,4" {
		t.Errorf("ESEARCH gives %+v", found)
	}
}

func goIMAPModSeq(t *testing.T, c *imapclient.Client) {
	sel, err := c.Select("All/Kept", &imap.SelectOptions{CondStore: true}).Wait()
	must(t, err)
	two := imap.UIDSetNum(2)
	add := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagAnswered}}
	_, err = c.Store(two, add, &imap.StoreOptions{UnchangedSince: sel.HighestModSeq}).Collect()
	must(t, err)
	changed, err := c.Fetch(imap.UIDSet{imap.UIDRange{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true, ModSeq: true,
		ChangedSince: sel.HighestModSeq}).Collect()
	must(t, err)
	if len(changed) != 1 || changed[0].UID != 2 || changed[0].ModSeq <= sel.HighestModSeq {
		t.Errorf("CHANGEDSINCE brings %d messages", len(changed))
	}
	add.Flags = []imap.Flag{imap.FlagFlagged}
	late, err := c.Store(two, add, &imap.StoreOptions{UnchangedSince: sel.HighestModSeq}).Collect()
	must(t, err)
	for _, m := range late {
		if slices.Contains(m.Flags, imap.FlagFlagged) {
			t.Error("STORE UNCHANGEDSINCE changed what had changed since")
		}
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: sel.HighestModSeq + 1}}, nil).Wait()
	must(t, err)
	if fmt.Sprint(found.AllUIDs()) != "[2]" {
		t.Errorf("SEARCH MODSEQ gives %v", found.AllUIDs())
	}
	bin, size := &imap.FetchItemBinarySection{Part: []int{1}, Peek: true}, &imap.FetchItemBinarySectionSize{Part: []int{1}}
	got, err := c.Fetch(two, &imap.FetchOptions{UID: true, BinarySection: []*imap.FetchItemBinarySection{bin},
		BinarySectionSize: []*imap.FetchItemBinarySectionSize{size}}).Collect()
	must(t, err)
	if len(got) != 1 || !bytes.Equal(got[0].FindBinarySection(bin), []byte("xx")) || got[0].BinarySectionSize[0].Size != 2 {
		t.Errorf("BINARY brings %+v", got)
	}
	must(t, c.Store(two, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close())
	must(t, c.Unselect().Wait())
	status, err := c.Status("All/Kept", &imap.StatusOptions{NumMessages: true, NumDeleted: true, DeletedStorage: true, HighestModSeq: true}).Wait()
	must(t, err)
	if *status.NumMessages != 4 || *status.NumDeleted != 1 || status.DeletedStorage == nil {
		t.Errorf("UNSELECT, and STATUS says %+v", status)
	}
	_, err = c.Select("All/Kept", nil).Wait()
	must(t, err)
	must(t, c.UnselectAndExpunge().Wait())
	status, err = c.Status("All/Kept", &imap.StatusOptions{NumMessages: true}).Wait()
	must(t, err)
	if *status.NumMessages != 3 {
		t.Errorf("CLOSE leaves %d messages", *status.NumMessages)
	}
}

func goIMAPExtras(t *testing.T, c *imapclient.Client) {
	quotas, err := c.GetQuotaRoot("INBOX").Wait()
	must(t, err)
	for _, q := range quotas {
		_, err := c.GetQuota(q.Root).Wait()
		must(t, err)
		must(t, c.SetQuota(q.Root, map[imap.QuotaResourceType]int64{imap.QuotaResourceStorage: 1}).Wait(), "NO")
	}
	value := []byte("a \"note\"\r\nin two lines")
	must(t, c.SetMetadata("All/Kept", map[string]*[]byte{"/private/comment": &value}).Wait())
	meta, err := c.GetMetadata("All/Kept", []string{"/private"}, &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthInfinity}).Wait()
	must(t, err)
	if got := meta.Entries["/private/comment"]; got == nil || !bytes.Equal(*got, value) {
		t.Errorf("GETMETADATA gives %+v", meta.Entries)
	}
	must(t, c.SetMetadata("All/Kept", map[string]*[]byte{"/private/comment": nil}).Wait())
	if !c.Caps().Has(imap.CapACL) {
		return
	}
	mine, err := c.MyRights("All/Kept").Wait()
	must(t, err)
	if !strings.ContainsRune(mine.Rights.String(), 'a') {
		t.Errorf("MYRIGHTS gives %s", mine.Rights)
	}
	must(t, c.SetACL("All/Kept", "bob@martlet.test", imap.RightModificationReplace, imap.RightSet("lrs")).Wait())
	must(t, c.SetACL("All/Kept", "bob@martlet.test", imap.RightModificationAdd, imap.RightSet("w")).Wait())
	acl, err := c.GetACL("All/Kept").Wait()
	must(t, err)
	if got := acl.Rights["bob@martlet.test"]; !got.Equal(imap.RightSet("lrsw")) {
		t.Errorf("GETACL gives %v", acl.Rights)
	}
}

// goIMAPUTF8 enables what changes the grammar for the rest of a session.
func goIMAPUTF8(t *testing.T, s *subject) {
	if s.Server == nil {
		t.Skip("Dovecot 2.3 has neither")
	}
	a := s.account(t, "goutf8")
	for _, word := range []imap.Cap{imap.CapUTF8Accept, imap.CapIMAP4rev2} {
		c, err := imapclient.DialTLS(s.addr("imaps"), s.options(t))
		must(t, err)
		defer c.Close()
		must(t, c.Login(a.Address, a.Password).Wait())
		enabled, err := c.Enable(word).Wait()
		must(t, err)
		if !enabled.Caps.Has(word) {
			t.Errorf("ENABLE %s is answered by %v", word, enabled.Caps)
		}
		name := "Gr\u00fc\u00dfe \u65e5\u672c " + string(word)
		must(t, c.Create(name, nil).Wait())
		goIMAPAppend(t, c, name, 0)
		sel, err := c.Select(name, nil).Wait()
		must(t, err)
		if sel.NumMessages != 1 {
			t.Errorf("with %s SELECT counts %d messages", word, sel.NumMessages)
		}
		found, err := c.UIDSearch(&imap.SearchCriteria{Since: time.Now().Add(-48 * time.Hour)}, nil).Wait()
		must(t, err)
		if len(found.AllUIDs()) != 1 {
			t.Errorf("with %s SEARCH gives %v", word, found)
		}
		list, err := c.List("", name, nil).Collect()
		must(t, err)
		if len(list) != 1 || list[0].Mailbox != name {
			t.Errorf("with %s LIST gives %d mailboxes", word, len(list))
		}
		must(t, c.Logout().Wait())
	}
}
