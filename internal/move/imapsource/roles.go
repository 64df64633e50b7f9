package imapsource

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// wellKnown are the names by which servers and clients without SPECIAL-USE call mailboxes,
// in lower case.
var wellKnown = map[mail.Role][]string{
	mail.RoleSent: {
		"sent", "sent items", "sent messages", "sent mail", "sent-mail", "sent_mail", "gesendet", "gesendete objekte", "gesendete elemente", "gesendete nachrichten",
		"envoyés", "éléments envoyés", "messages envoyés", "objets envoyés", "courrier envoyé", "enviados", "elementos enviados", "mensajes enviados", "correo enviado",
		"itens enviados", "mensagens enviadas", "posta inviata", "inviata", "inviati", "messaggi inviati", "elementi inviati", "verzonden", "verzonden items", "verzonden berichten",
		"skickat", "skickade objekt", "skickade", "sendt", "sendte elementer", "sendt post", "sendte", "lähetetyt", "wysłane", "elementy wysłane", "odeslané", "odeslaná pošta",
		"odoslané", "odoslaná pošta", "elküldött", "elküldött elemek", "elküldött üzenetek", "trimise", "mesaje trimise", "gönderilmiş öğeler", "gönderilenler", "gönderilmiş postalar",
		"отправленные", "отправленные элементы", "надіслані", "відправлені", "изпратени", "απεσταλμένα", "נשלחו", "البريد المرسل", "العناصر المرسلة",
		"送信済み", "送信済みアイテム", "送信済みメール", "送信トレイ済み", "已发送", "已发送邮件", "已发送消息", "寄件備份", "已寄郵件", "已傳送郵件", "보낸편지함", "보낸 편지함", "보낸메일함", "đã gửi", "terkirim",
		"poslano", "poslane stavke", "saadetud", "nosūtītie", "išsiųsta", "išsiųsti", "enviats", "bidalita", "enviada",
	},
	mail.RoleDrafts: {
		"drafts", "draft", "draft messages", "entwürfe", "entwurf", "brouillons", "brouillon", "borradores", "borrador", "rascunhos", "rascunho", "bozze", "bozza", "concepten", "concept",
		"utkast", "kladder", "kladde", "luonnokset", "kopie robocze", "szkice", "wersje robocze", "koncepty", "rozepsané", "piszkozatok", "ciorne", "taslaklar", "черновики", "чернетки", "чернови",
		"πρόχειρα", "טיוטות", "المسودات", "مسودات", "下書き", "草稿", "草稿箱", "草稿匣", "임시보관함", "임시 보관함", "bản nháp", "thư nháp", "draf", "skice", "nacrti", "osnutki", "mustandid", "melnraksti", "juodraščiai", "esborranys", "zirriborroak",
	},
	mail.RoleTrash: {
		"trash", "deleted items", "deleted messages", "deleted", "bin", "papierkorb", "gelöschte objekte", "gelöschte elemente", "gelöscht", "corbeille", "éléments supprimés", "messages supprimés",
		"papelera", "elementos eliminados", "eliminados", "lixeira", "lixo", "itens excluídos", "itens eliminados", "cestino", "posta eliminata", "elementi eliminati", "prullenbak", "verwijderde items", "verwijderd",
		"papperskorgen", "borttagna objekt", "borttaget", "slettede elementer", "slettet post", "papirkurv", "søppel", "roskakori", "poistetut", "kosz", "elementy usunięte", "koš", "odstraněná pošta", "kôš", "odstránená pošta",
		"kuka", "lomtár", "törölt elemek", "coș de gunoi", "elemente șterse", "çöp kutusu", "silinmiş öğeler", "корзина", "удаленные", "удалённые", "кошик", "видалені", "кошче", "κάδος", "κάδος απορριμμάτων", "διαγραμμένα",
		"אשפה", "פריטים שנמחקו", "المحذوفات", "سلة المهملات", "العناصر المحذوفة", "ゴミ箱", "ごみ箱", "削除済みアイテム", "已删除", "已删除邮件", "已删除消息", "垃圾桶", "刪除的郵件", "휴지통", "지운편지함", "thùng rác", "sampah", "smeće", "prügikast", "šiukšlinė", "paperera", "zakarrontzia",
	},
	mail.RoleJunk: {
		"junk", "spam", "junk e-mail", "junk email", "junk mail", "bulk mail", "bulk", "spamverdacht", "unerwünscht", "werbung", "junk-e-mail", "courrier indésirable", "indésirables", "pourriel", "pourriels",
		"correo no deseado", "no deseado", "lixo eletrônico", "lixo electrónico", "spam messages", "posta indesiderata", "indesiderata", "ongewenste e-mail", "ongewenst", "skräppost", "uønsket e-post", "søppelpost", "uønsket mail",
		"roskaposti", "wiadomości-śmieci", "nevyžádaná pošta", "nevyžiadaná pošta", "levélszemét", "mesaje nedorite", "gereksiz", "önemsiz e-posta", "нежелательная почта", "спам", "небажана пошта", "ανεπιθύμητα", "ανεπιθύμητη αλληλογραφία",
		"דואר זבל", "ספאם", "البريد غير الهام", "البريد العشوائي", "迷惑メール", "迷惑メールフォルダ", "垃圾邮件", "垃圾郵件", "垃圾信件", "스팸", "스팸메일함", "정크 메일", "thư rác", "rämpspost", "brossa", "zabor-posta",
	},
	mail.RoleArchive: {
		"archive", "archives", "archiv", "archivo", "archivio", "arquivo", "archief", "arkiv", "arkisto", "archiwum", "archív", "archivum", "archívum", "arhiva", "arhivă", "arşiv", "архив", "архів", "αρχείο", "ארכיון", "أرشيف",
		"アーカイブ", "存档", "归档", "封存", "보관함", "lưu trữ", "arsip", "arxiu",
	},
}

// guessRoles gives a role by its name to a mailbox on the first level (below the prefix), if
// nobody has it and no other mailbox would be it as well.
func guessRoles(all []imapc.Mailbox, prefix string) {
	for role, names := range wellKnown {
		found := -1
		for i := range all {
			m := &all[i]
			if m.Role == role {
				found = -2
				break
			}
			if m.Role == "" && among(firstLevel(m, prefix), names) {
				if found >= 0 {
					found = -2
					break
				}
				found = i
			}
		}
		if found >= 0 {
			all[found].Role = role
		}
	}
}

// firstLevel returns a name in lower case without the prefix, "" if it has further levels.
func firstLevel(m *imapc.Mailbox, prefix string) string {
	wire := m.Wire
	if len(wire) > len(prefix) && strings.EqualFold(wire[:len(prefix)], prefix) {
		wire = wire[len(prefix):]
	} else if m.Separator != 0 && len(wire) > 6 && strings.EqualFold(wire[:5], "INBOX") && wire[5] == m.Separator {
		wire = wire[6:] // servers without NAMESPACE
	}
	name := imapName(wire)
	if m.Separator != 0 && strings.IndexByte(name, m.Separator) >= 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(name))
}

// imapName returns the UTF-8 of a name, the name itself if it is not valid.
func imapName(wire string) string {
	if name, err := imap.DecodeUTF7(wire); err == nil {
		return name
	}
	return wire
}

func among(name string, names []string) bool {
	if name == "" {
		return false
	}
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
