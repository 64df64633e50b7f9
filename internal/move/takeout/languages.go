package takeout

// words are Gmail's own labels as its interface calls them, and a Takeout with it: by
// language, in the order inbox, sent, drafts, spam, trash, starred, important, unread,
// opened, archived, chat. Alternatives are parted by ";": Google has changed some, and some
// differ between the interface and the Takeout. What is missing here is taken for a label of
// one's own: it becomes a mailbox, and Options.Names puts it right.
//
// As of 2026-11. Those of English, German, French and Spanish are from reports and examples
// of Takeouts; the others are from memory and were not held against one.
var words = map[string][11]string{
	"en":    {"Inbox", "Sent;Sent Mail;Sent Messages", "Drafts;Draft", "Spam", "Trash;Bin", "Starred", "Important", "Unread", "Opened", "Archived;Archive;All Mail", "Chat;Chats"},
	"de":    {"Posteingang", "Gesendet;Gesendete Nachrichten", "Entwürfe;Entwurf", "Spam", "Papierkorb", "Markiert", "Wichtig", "Ungelesen", "Geöffnet;Gelesen", "Archiviert;Alle Nachrichten", "Chat;Chats"},
	"fr":    {"Boîte de réception;Messages reçus", "Envoyé;Envoyés;Messages envoyés", "Brouillons;Brouillon", "Spam;Courrier indésirable", "Corbeille", "Suivi;Suivis;Messages suivis;Favoris", "Important;Importants", "Non lu;Non lus;Messages non lus", "Ouvert;Ouverts;Lu;Lus", "Archivé;Archivés;Messages archivés;Tous les messages", "Chat;Discussion;Discussions"},
	"es":    {"Recibidos;Bandeja de entrada", "Enviado;Enviados", "Borradores;Borrador", "Spam;Correo no deseado", "Papelera", "Destacado;Destacados;Con estrella", "Importante;Importantes", "No leído;No leídos;Sin leer", "Abierto;Abiertos;Leído;Leídos", "Archivado;Archivados", "Chat;Chats"},
	"it":    {"Posta in arrivo", "Inviato;Inviati;Posta inviata", "Bozze;Bozza", "Spam", "Cestino", "Speciale;Speciali;Messaggi speciali", "Importante;Importanti", "Da leggere;Non letto;Non letti", "Aperto;Aperti;Letto;Letti", "Archiviato;Archiviati;Tutti i messaggi", "Chat"},
	"pt":    {"Caixa de entrada;Recebidos", "Enviado;Enviados;E-mails enviados", "Rascunhos;Rascunho", "Spam", "Lixeira;Lixo;Reciclagem", "Com estrela;Favoritos", "Importante;Importantes", "Não lido;Não lidos;Não lida;Não lidas", "Aberto;Abertos;Aberta;Lido;Lidos", "Arquivado;Arquivados;Arquivada;Arquivadas;Todos os e-mails;Todo o correio", "Chat;Bate-papo;Bate-papos"},
	"nl":    {"Inbox;Postvak IN", "Verzonden;Verzonden berichten", "Concepten;Concept", "Spam", "Prullenbak", "Met ster", "Belangrijk", "Ongelezen", "Geopend;Gelezen", "Gearchiveerd;Alle berichten;Alle e-mail", "Chat;Chats"},
	"pl":    {"Odebrane;Skrzynka odbiorcza", "Wysłane", "Wersje robocze;Szkice", "Spam", "Kosz", "Oznaczone gwiazdką;Z gwiazdką", "Ważne", "Nieprzeczytane", "Otwarte;Przeczytane", "Zarchiwizowane;Wszystkie", "Czat;Czaty"},
	"ru":    {"Входящие", "Отправленные", "Черновики;Черновик", "Спам", "Корзина", "Помеченные;Отмеченные;Со звездочкой", "Важное;Важные", "Непрочитанные;Непрочитанное", "Открыто;Открытые;Прочитанные", "В архиве;Архив;Архивные;Вся почта", "Чат;Чаты"},
	"uk":    {"Вхідні", "Надіслані", "Чернетки", "Спам", "Кошик", "Із зірочкою;Із зірочками", "Важливі;Важливо", "Непрочитані", "Відкриті;Відкрито;Прочитані", "Архівовані;Заархівовано;Архів;Уся пошта;Вся пошта", "Чат;Чати"},
	"cs":    {"Doručená pošta;Doručené", "Odeslané;Odeslaná pošta", "Koncepty", "Spam", "Koš", "S hvězdičkou", "Důležité", "Nepřečtené", "Otevřené;Otevřeno;Přečtené", "Archivováno;Archivované;Všechny zprávy", "Chat;Chaty"},
	"sk":    {"Doručená pošta;Doručené", "Odoslané;Odoslaná pošta", "Koncepty", "Spam", "Kôš", "S hviezdičkou;Označené hviezdičkou", "Dôležité", "Neprečítané", "Otvorené;Prečítané", "Archivované;Všetky správy", "Chat;Chaty"},
	"sl":    {"Prejeto", "Poslano", "Osnutki", "Vsiljena pošta;Neželena pošta", "Smetnjak;Koš", "Z zvezdico", "Pomembno", "Neprebrano", "Odprto;Prebrano", "Arhivirano;Vsa pošta", "Klepet;Klepeti"},
	"hr":    {"Primljeno;Pristigla pošta", "Poslano", "Skice", "Neželjena pošta;Spam", "Otpad;Smeće", "Sa zvjezdicom;Označeno zvjezdicom", "Važno", "Nepročitano", "Otvoreno;Pročitano", "Arhivirano;Sva pošta", "Chat;Chatovi"},
	"sr":    {"Примљене;Пријемно сандуче", "Послате;Послато", "Недовршене;Нацрти", "Непожељне;Спам", "Отпад", "Са звездицом", "Важно;Важне", "Непрочитано;Непрочитане", "Отворено;Отворене", "Архивирано;Архивиране;Све поруке", "Ћаскање;Ћаскања"},
	"bg":    {"Входящи;Входяща поща", "Изпратени", "Чернови", "Спам", "Кошче", "Със звезда", "Важни;Важно", "Непрочетени", "Отворени;Отворено;Прочетени", "Архивирани;Архивирано;Всички", "Чат;Чатове"},
	"ro":    {"Mesaje primite;Inbox", "Trimis;Trimise;Mesaje trimise", "Mesaje nefinalizate;Schițe;Ciorne", "Spam", "Coș de gunoi;Coș", "Cu stea", "Important;Importante", "Necitit;Necitite", "Deschis;Deschise", "Arhivat;Arhivate;Toate mesajele", "Chat;Chaturi"},
	"hu":    {"Beérkező levelek;Beérkezett üzenetek", "Elküldött;Elküldött levelek;Elküldött üzenetek", "Piszkozatok;Vázlatok", "Spam", "Kuka", "Csillagozott", "Fontos", "Olvasatlan", "Megnyitott;Megnyitva;Olvasott", "Archivált;Archiválva;Összes levél", "Csevegés;Csevegések"},
	"sv":    {"Inkorg;Inkorgen", "Skickat;Skickade;Skickade meddelanden", "Utkast", "Spam;Skräppost", "Papperskorgen;Papperskorg", "Stjärnmärkt;Stjärnmärkta", "Viktigt;Viktiga", "Oläst;Olästa", "Öppnat;Öppnad;Öppnade;Läst;Lästa", "Arkiverat;Arkiverad;Arkiverade;Alla mejl;Alla meddelanden", "Chatt;Chattar"},
	"da":    {"Indbakke", "Sendt;Sendte;Sendte mails", "Kladder", "Spam", "Papirkurv", "Stjernemarkeret;Stjernemarkerede;Med stjerne", "Vigtigt;Vigtig;Vigtige", "Ulæst;Ulæste", "Åbnet;Åbnede;Læst;Læste", "Arkiveret;Arkiverede;Alle mails;Alle e-mails", "Chat;Chats;Chatbeskeder"},
	"no":    {"Innboks", "Sendt;Sendte;Sendt e-post", "Utkast", "Søppelpost;Spam", "Papirkurv;Søppel", "Stjernemerket;Stjernemerkede;Med stjerne", "Viktig;Viktige", "Ulest;Uleste", "Åpnet;Åpnede;Lest;Leste", "Arkivert;Arkiverte;All e-post", "Chat;Nettprat"},
	"fi":    {"Postilaatikko;Saapuneet", "Lähetetyt;Lähetetty", "Luonnokset", "Roskaposti", "Roskakori", "Tähdellä merkityt;Tähdellä merkitty", "Tärkeät;Tärkeä", "Lukematta;Lukematon;Lukemattomat", "Avattu;Avatut;Luettu", "Arkistoitu;Arkistoidut;Kaikki viestit", "Chat;Keskustelut"},
	"et":    {"Postkast;Saabunud", "Saadetud;Saadetud kirjad", "Mustandid", "Rämpspost", "Prügikast", "Tärniga;Tähega", "Oluline;Olulised", "Lugemata", "Avatud;Loetud", "Arhiivitud;Kõik kirjad", "Vestlus;Vestlused"},
	"lv":    {"Iesūtne;Iesūtnē", "Nosūtītās;Nosūtīts", "Melnraksti", "Surogātpasts;Mēstules", "Miskaste;Atkritne", "Atzīmētās ar zvaigznīti;Ar zvaigznīti", "Svarīgi;Svarīgās", "Neizlasītās;Nelasīts;Nelasītās", "Atvērts;Atvērtās", "Arhivēts;Arhivētās;Viss pasts", "Tērzēšana"},
	"lt":    {"Gautieji;Gautuosiuose", "Išsiųsti;Išsiųsta;Išsiųsti laiškai", "Juodraščiai", "Šlamštas", "Šiukšliadėžė;Šiukšlinė", "Pažymėta žvaigždute;Su žvaigždute", "Svarbūs;Svarbu", "Neskaityti;Neskaityta;Neskaitytas", "Atidaryta;Atidaryti;Skaityti", "Archyvuota;Archyvuoti;Visi laiškai", "Pokalbis;Pokalbiai"},
	"el":    {"Εισερχόμενα", "Απεσταλμένα", "Πρόχειρα", "Ανεπιθύμητα;Ανεπιθύμητη αλληλογραφία", "Κάδος απορριμμάτων;Κάδος", "Με αστέρι", "Σημαντικά;Σημαντικό", "Μη αναγνωσμένα;Μη αναγνωσμένο", "Ανοιγμένα;Ανοιχτά;Αναγνωσμένα", "Αρχειοθετημένα;Αρχειοθετήθηκε;Όλα τα μηνύματα", "Συνομιλία;Συνομιλίες"},
	"tr":    {"Gelen Kutusu;Gelen", "Gönderilmiş Postalar;Gönderilenler;Gönderildi", "Taslaklar", "Spam", "Çöp Kutusu;Çöp", "Yıldızlı;Yıldızlananlar", "Önemli", "Okunmamış;Okunmadı", "Açılmış;Açıldı;Okundu", "Arşivlenmiş;Arşivlendi;Tüm Postalar", "Sohbet;Sohbetler"},
	"ar":    {"البريد الوارد;الوارد", "المرسل;البريد المرسل;الرسائل المرسلة", "المسودات;مسودات", "غير المرغوب فيه;الرسائل غير المرغوب فيها;بريد غير مرغوب فيه", "المهملات", "المميزة بنجمة;مميّز بنجمة;رسائل مميّزة بنجمة", "مهم;مهمة;الرسائل المهمة", "غير مقروء;غير مقروءة;الرسائل غير المقروءة", "تم الفتح;مفتوحة;مقروءة", "مؤرشف;مؤرشفة;تمت الأرشفة;كل البريد", "الدردشة;محادثات"},
	"he":    {"דואר נכנס", "נשלח;דואר יוצא;פריטים שנשלחו", "טיוטות", "ספאם;דואר זבל", "אשפה", "מסומן בכוכב;מסומנים בכוכב", "חשוב;חשובים", "לא נקרא;לא נקראו", "נפתח;נפתחו;נקראו", "בארכיון;הועבר לארכיון;כל הדואר", "צ'אט;צ'אטים"},
	"fa":    {"صندوق ورودی;صندوق دریافت", "ارسال شده;ارسال\u200cشده;ارسال شده\u200cها", "پیش\u200cنویس\u200cها;پیش نویس ها", "هرزنامه", "حذف\u200cشده\u200cها;حذف شده;زباله\u200cدان", "ستاره\u200cدار;ستاره دار", "مهم", "خوانده نشده;خوانده\u200cنشده", "بازشده;باز شده", "بایگانی شده;بایگانی\u200cشده;همه نامه\u200cها", "گپ;گپ\u200cها"},
	"hi":    {"इनबॉक्स", "भेजी गई;भेजे गए;भेजा गया;भेजे गए मेल", "ड्राफ़्ट;ड्राफ्ट", "स्पैम", "ट्रैश;ट्रेश", "तारांकित;तारे के निशान वाला;तारांकित किए गए", "महत्वपूर्ण;ज़रूरी", "अपठित;नहीं पढ़े गए;बिना पढ़ा हुआ", "खोला गया;खोले गए", "संग्रहित;संग्रह में रखा गया;सभी मेल", "चैट"},
	"bn":    {"ইনবক্স", "পাঠানো;প্রেরিত;পাঠানো মেল", "ড্রাফ্ট;খসড়া", "স্প্যাম", "ট্র্যাশ", "তারাঙ্কিত;তারকাচিহ্নিত", "গুরুত্বপূর্ণ", "অপঠিত;পড়া হয়নি", "খোলা হয়েছে", "আর্কাইভ করা হয়েছে;সমস্ত মেল", "চ্যাট"},
	"ta":    {"இன்பாக்ஸ்", "அனுப்பியவை;அனுப்பிய அஞ்சல்", "வரைவுகள்", "ஸ்பேம்", "நீக்கியவை", "நட்சத்திரமிட்டவை", "முக்கியமானவை;முக்கியமானது", "படிக்காதவை", "திறந்தவை", "காப்பகப்படுத்தியவை;எல்லா அஞ்சல்", "அரட்டை"},
	"th":    {"กล่องจดหมาย", "ส่งแล้ว;จดหมายที่ส่งแล้ว;จดหมายที่ส่ง", "ร่างจดหมาย;ร่าง;ฉบับร่าง", "จดหมายขยะ;สแปม", "ถังขยะ", "ติดดาว;ที่ติดดาว", "สำคัญ", "ยังไม่ได้อ่าน;ยังไม่อ่าน", "เปิดแล้ว;อ่านแล้ว", "เก็บถาวรแล้ว;เก็บแล้ว;จดหมายทั้งหมด", "แชท;แชต"},
	"vi":    {"Hộp thư đến", "Đã gửi;Thư đã gửi", "Thư nháp;Nháp;Bản nháp", "Thư rác;Spam", "Thùng rác", "Có gắn dấu sao;Được gắn dấu sao;Có dấu sao", "Quan trọng", "Chưa đọc", "Đã mở;Đã đọc", "Đã lưu trữ;Lưu trữ;Tất cả thư", "Trò chuyện;Cuộc trò chuyện"},
	"id":    {"Kotak Masuk", "Terkirim;Surat Terkirim;Pesan Terkirim", "Draf;Draft", "Spam", "Sampah;Tong Sampah", "Berbintang", "Penting", "Belum dibaca;Belum Dibaca", "Dibuka;Sudah dibuka;Dibaca", "Diarsipkan;Arsip;Semua Email;Semua Pesan", "Chat;Obrolan"},
	"ms":    {"Peti Masuk", "Dihantar;Mel Dihantar;Mel dihantar", "Draf", "Spam", "Sampah;Tong Sampah", "Dibintangi;Berbintang", "Penting", "Belum dibaca;Belum Dibaca", "Dibuka", "Diarkibkan;Semua Mel", "Sembang"},
	"fil":   {"Inbox", "Naipadala;Naipadalang Mail;Ipinadala", "Mga Draft", "Spam", "Basurahan;Trash", "Naka-star;May Star", "Mahalaga", "Hindi pa nababasa;Hindi Nabasa", "Binuksan;Nabuksan", "Naka-archive;Lahat ng Mail", "Chat;Mga Chat"},
	"ja":    {"受信トレイ", "送信済み;送信済みメール", "下書き", "迷惑メール", "ゴミ箱", "スター付き", "重要", "未読", "開封済み;既読", "アーカイブ;アーカイブ済み;すべてのメール", "チャット"},
	"ko":    {"받은편지함", "보낸편지함", "임시보관함", "스팸함;스팸", "휴지통", "별표편지함;별표;별표표시됨", "중요;중요편지함", "읽지않음;읽지 않음", "열림;열어봄;읽음", "보관됨;보관처리됨;보관 처리됨;전체보관함", "채팅;채팅함"},
	"zh-CN": {"收件箱", "已发邮件;已发送;已发送邮件", "草稿", "垃圾邮件", "已删除邮件;回收站;垃圾箱", "已加星标;星标邮件", "重要;重要邮件", "未读;未读邮件", "已打开;已读", "已归档;归档;所有邮件", "聊天;聊天记录"},
	"zh-TW": {"收件匣", "寄件備份;已傳送", "草稿;草稿匣", "垃圾郵件", "垃圾桶", "已加星號", "重要郵件;重要", "未讀;未讀取", "已開啟;已讀取;已讀", "已封存;封存;所有郵件;全部郵件", "即時通訊;聊天"},
	"zh-HK": {"收件箱", "已傳送;寄件備份", "草稿", "垃圾郵件", "垃圾桶", "已加星號", "重要", "未讀", "已開啟", "已封存;所有郵件", "聊天"},
	"ca":    {"Safata d'entrada;Rebuts", "Enviats;Enviat;Missatges enviats", "Esborranys", "Correu brossa", "Paperera", "Destacats;Destacat", "Importants;Important", "No llegits;No llegit;Sense llegir", "Oberts;Obert", "Arxivats;Arxivat", "Xat;Xats"},
	"gl":    {"Caixa de entrada;Recibidos", "Enviados;Enviado", "Borradores", "Spam", "Papeleira;Lixo", "Con estrela;Destacados", "Importante;Importantes", "Non lido;Non lidos;Sen ler", "Aberto;Abertos", "Arquivado;Arquivados", "Chat"},
	"eu":    {"Sarrera-ontzia", "Bidalitakoak;Bidaliak", "Zirriborroak", "Spama;Spam", "Zaborrontzia", "Izardunak", "Garrantzitsuak;Garrantzitsua", "Irakurri gabe;Irakurri gabeak", "Irekita;Irekiak", "Artxibatuta;Mezu guztiak", "Txata"},
	"is":    {"Innhólf;Pósthólf", "Sent;Sendur póstur", "Drög;Uppköst", "Ruslpóstur", "Rusl;Ruslafata", "Stjörnumerkt", "Mikilvægt", "Ólesið", "Opnað", "Í geymslu;Sett í geymslu;Allur póstur", "Spjall"},
	"af":    {"Inkassie", "Gestuur", "Konsepte", "Strooipos", "Asblik;Vullisblik", "Gester", "Belangrik", "Ongelees", "Oopgemaak", "Geargiveer;Alle pos", "Klets"},
	"sw":    {"Kikasha", "Zilizotumwa;Barua iliyotumwa", "Rasimu", "Taka", "Tupio", "Zenye nyota", "Muhimu", "Ambazo hazijasomwa;Haijasomwa", "Imefunguliwa", "Zilizowekwa kwenye kumbukumbu;Barua zote", "Gumzo"},
	"am":    {"የገቢ መልዕክት ሳጥን", "ተልኳል", "ረቂቆች", "አይፈለጌ መልዕክት", "መጣያ", "ኮከብ የተደረገባቸው", "አስፈላጊ", "ያልተነበበ", "ተከፍቷል", "በማህደር የተቀመጠ", "ውይይት"},
}

// categories are the words with which the labels of Gmail's tabs begin.
var categories = []string{
	"Category", "Kategorie", "Catégorie", "Categoría", "Categoria", "Categorie", "Kategoria", "Kategória", "Kategorija", "Kategori",
	"Категория", "Категорія", "Категорија", "Luokka", "Κατηγορία", "Kategooria", "Kategorya", "カテゴリ", "카테고리", "类别", "分类", "類別", "分類",
	"หมวดหมู่", "ประเภท", "الفئة", "فئة", "קטגוריה", "Danh mục", "श्रेणी", "বিভাগ", "Kategorie:", "Flokkur", "Kategorioa",
}

// tabs are the categories by the words of some languages; of others the label is kept
// as it is.
var tabs = map[string][]string{
	"Personal":     {"Personal", "Primary", "Allgemein", "Persönlich", "Personnel", "Principale", "Personale", "Pessoal", "Persoonlijk", "Personligt", "Личное", "Osobiste"},
	"Social":       {"Social", "Soziale Medien", "Soziale Netzwerke", "Réseaux sociaux", "Sociale", "Sociaal", "Socialt", "Соцсети", "Społeczności"},
	"Promotions":   {"Promotions", "Werbung", "Promociones", "Promozioni", "Promoções", "Reclame", "Reklamer", "Промоакции", "Oferty"},
	"Updates":      {"Updates", "Benachrichtigungen", "Notifications", "Notificaciones", "Aggiornamenti", "Atualizações", "Oplysninger", "Оповещения", "Powiadomienia"},
	"Forums":       {"Forums", "Foren", "Foros", "Forum", "Fóruns", "Форумы", "Fora"},
	"Purchases":    {"Purchases", "Käufe", "Achats", "Compras", "Acquisti"},
	"Reservations": {"Reservations", "Travel", "Reisen", "Réservations", "Reservas"},
}
