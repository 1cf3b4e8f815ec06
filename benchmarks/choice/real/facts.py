"""Facts of which a small model knows some: our own, each asked in several ways.

The limits that tell half known facts from wrong rows were set by hand on the first seven and
`landmarks`. After the others up to `country` had been seen one limit was moved, from four fifths of
the tokens to three quarters, since it hid wrong rows. `LATER` ones came after that, with no part in
any limit.
"""

from __future__ import annotations

import random

__all__ = ["LATER", "names", "questions"]

LATER = (
    *("french", "nationality", "plurals", "past", "peoples", "abbreviations", "protons"),
    *("sciences", "rivers", "tools"),
)


def names() -> tuple[str, ...]:
    """The lists of facts that had a part in limits."""
    return tuple(name for name in _FACTS if name not in LATER)


def questions(rng: random.Random, name: str, number: int) -> list[tuple[str, str]]:
    """Draw (question, answer), with repeats."""
    ways, facts = _FACTS[name]
    pairs = [fact.split("=") for line in facts.strip().splitlines() for fact in line.split(";")]
    drawn = ((rng.choice(ways), *rng.choice(pairs)) for _ in range(number))
    return [(way.format(subject), answer) for way, subject, answer in drawn]


_FACTS: dict[str, tuple[tuple[str, ...], str]] = {
    "spanish": (
        (
            'How do you say "{}" in Spanish?',
            'Spanish for "{}":',
            "Translate into Spanish: {}",
        ),
        """
dog=perro;cat=gato;house=casa;water=agua;bread=pan;milk=leche;book=libro;school=escuela
friend=amigo;mother=madre;father=padre;brother=hermano;sister=hermana;red=rojo;blue=azul
green=verde;white=blanco;black=negro;one=uno;two=dos;three=tres;four=cuatro;five=cinco;six=seis
seven=siete;eight=ocho;nine=nueve;ten=diez;day=día;night=noche;sun=sol;moon=luna;star=estrella
tree=árbol;flower=flor;bird=pájaro;fish=pez;horse=caballo;cow=vaca;apple=manzana;cheese=queso
wine=vino;city=ciudad;street=calle;door=puerta;window=ventana;table=mesa;chair=silla;bed=cama
head=cabeza;hand=mano;eye=ojo;heart=corazón;king=rey;queen=reina;sea=mar;mountain=montaña
river=río;car=coche;train=tren;hello=hola;thanks=gracias;yes=sí;man=hombre;woman=mujer
child=niño;good=bueno;bad=malo;big=grande;small=pequeño;new=nuevo;old=viejo;hot=caliente
cold=frío;year=año;month=mes;week=semana;time=tiempo;work=trabajo;money=dinero;food=comida
fire=fuego;snow=nieve;rain=lluvia;wind=viento""",
    ),
    "elements": (
        (
            "What is the symbol of {}?",
            "Chemical symbol for {}:",
            "Which symbol does {} have in the periodic table?",
            "Symbol, {}?",
        ),
        """
hydrogen=H;helium=He;lithium=Li;beryllium=Be;boron=B;carbon=C;nitrogen=N;oxygen=O;fluorine=F
neon=Ne;sodium=Na;magnesium=Mg;aluminium=Al;silicon=Si;phosphorus=P;sulfur=S;chlorine=Cl
argon=Ar;potassium=K;calcium=Ca;titanium=Ti;chromium=Cr;manganese=Mn;iron=Fe;cobalt=Co;nickel=Ni
copper=Cu;zinc=Zn;gallium=Ga;germanium=Ge;arsenic=As;selenium=Se;bromine=Br;krypton=Kr;silver=Ag
tin=Sn;antimony=Sb;iodine=I;xenon=Xe;cesium=Cs;barium=Ba;tungsten=W;platinum=Pt;gold=Au
mercury=Hg;lead=Pb;bismuth=Bi;radon=Rn;radium=Ra;uranium=U;plutonium=Pu;thorium=Th;zirconium=Zr
palladium=Pd;cadmium=Cd;osmium=Os;iridium=Ir""",
    ),
    "states": (
        (
            "What is the capital of {}?",
            "Capital of the state {}:",
            "Name the capital city of {}.",
            "{}: its capital?",
            "State: {}. Capital:",
        ),
        """
Alabama=Montgomery;Alaska=Juneau;Arizona=Phoenix;Arkansas=Little Rock;California=Sacramento
Colorado=Denver;Connecticut=Hartford;Delaware=Dover;Florida=Tallahassee;Georgia=Atlanta
Hawaii=Honolulu;Idaho=Boise;Illinois=Springfield;Indiana=Indianapolis;Iowa=Des Moines
Kansas=Topeka;Kentucky=Frankfort;Louisiana=Baton Rouge;Maine=Augusta;Maryland=Annapolis
Massachusetts=Boston;Michigan=Lansing;Minnesota=Saint Paul;Mississippi=Jackson
Missouri=Jefferson City;Montana=Helena;Nebraska=Lincoln;Nevada=Carson City;New Hampshire=Concord
New Jersey=Trenton;New Mexico=Santa Fe;New York=Albany;North Carolina=Raleigh
North Dakota=Bismarck;Ohio=Columbus;Oklahoma=Oklahoma City;Oregon=Salem;Pennsylvania=Harrisburg
Rhode Island=Providence;South Carolina=Columbia;South Dakota=Pierre;Tennessee=Nashville
Texas=Austin;Utah=Salt Lake City;Vermont=Montpelier;Virginia=Richmond;Washington=Olympia
West Virginia=Charleston;Wisconsin=Madison;Wyoming=Cheyenne""",
    ),
    "authors": (
        (
            "Who wrote {}?",
            "Author of {}:",
            "{} was written by whom?",
            "Name the author of {}.",
        ),
        """
Hamlet=William Shakespeare;Macbeth=William Shakespeare;Pride and Prejudice=Jane Austen
Emma=Jane Austen;1984=George Orwell;Animal Farm=George Orwell;Moby Dick=Herman Melville
War and Peace=Leo Tolstoy;Anna Karenina=Leo Tolstoy;The Odyssey=Homer;The Iliad=Homer
Don Quixote=Miguel de Cervantes;Faust=Johann Wolfgang von Goethe;Ulysses=James Joyce
Oliver Twist=Charles Dickens;Great Expectations=Charles Dickens
David Copperfield=Charles Dickens;Jane Eyre=Charlotte Brontë;Wuthering Heights=Emily Brontë
The Trial=Franz Kafka;The Metamorphosis=Franz Kafka;Crime and Punishment=Fyodor Dostoevsky
The Idiot=Fyodor Dostoevsky;Dracula=Bram Stoker;Frankenstein=Mary Shelley
The Hobbit=J. R. R. Tolkien;The Great Gatsby=F. Scott Fitzgerald
To Kill a Mockingbird=Harper Lee;Brave New World=Aldous Huxley;Lord of the Flies=William Golding
The Old Man and the Sea=Ernest Hemingway;The Grapes of Wrath=John Steinbeck
Treasure Island=Robert Louis Stevenson;Robinson Crusoe=Daniel Defoe
Gulliver's Travels=Jonathan Swift;The Time Machine=H. G. Wells;The War of the Worlds=H. G. Wells
Les Misérables=Victor Hugo;Madame Bovary=Gustave Flaubert;Candide=Voltaire
The Divine Comedy=Dante Alighieri;The Prince=Niccolò Machiavelli;The Republic=Plato
Paradise Lost=John Milton;Walden=Henry David Thoreau;The Raven=Edgar Allan Poe
The Jungle Book=Rudyard Kipling;Peter Pan=J. M. Barrie;Alice in Wonderland=Lewis Carroll
The Stranger=Albert Camus;The Plague=Albert Camus;The Scarlet Letter=Nathaniel Hawthorne
Middlemarch=George Eliot;Heart of Darkness=Joseph Conrad;A Doll's House=Henrik Ibsen
Pygmalion=George Bernard Shaw;Rebecca=Daphne du Maurier;Dune=Frank Herbert
Foundation=Isaac Asimov;Neuromancer=William Gibson""",
    ),
    "currency": (
        (
            "What is the currency of {}?",
            "Currency of {}:",
            "With what does one pay in {}?",
            "Money used in {}?",
        ),
        """
Japan=yen;China=yuan;India=rupee;Russia=ruble;Brazil=real;Mexico=peso;Switzerland=franc
Sweden=krona;Norway=krone;Denmark=krone;Poland=zloty;Hungary=forint;Turkey=lira;Egypt=pound
Israel=shekel;Thailand=baht;Vietnam=dong;South Korea=won;South Africa=rand;Kenya=shilling
Nigeria=naira;Germany=euro;France=euro;Italy=euro;Spain=euro;Ireland=euro;Canada=dollar
Australia=dollar;the United States=dollar;the United Kingdom=pound;Argentina=peso;Chile=peso
Colombia=peso;Peru=sol;Pakistan=rupee;Indonesia=rupiah;Malaysia=ringgit;Iran=rial;Iraq=dinar
Kuwait=dinar;Saudi Arabia=riyal;Ukraine=hryvnia;Romania=leu;Bulgaria=lev;Greece=euro
Portugal=euro;Austria=euro;Finland=euro;Singapore=dollar;New Zealand=dollar;Morocco=dirham
Ghana=cedi;Ethiopia=birr;Bangladesh=taka;Mongolia=tugrik;Georgia=lari;Armenia=dram
Kazakhstan=tenge;Iceland=krona;Serbia=dinar""",
    ),
    "continent": (
        (
            "On which continent is {}?",
            "Continent of {}:",
            "Where in the world is {}? Name the continent.",
            "{}: which continent?",
        ),
        """
Japan=Asia;China=Asia;India=Asia;Brazil=South America;Mexico=North America;Switzerland=Europe
Sweden=Europe;Norway=Europe;Egypt=Africa;Kenya=Africa;Nigeria=Africa;Ghana=Africa
Peru=South America;Chile=South America;Canada=North America;Cuba=North America;Thailand=Asia
Vietnam=Asia;Iran=Asia;Iraq=Asia;France=Europe;Italy=Europe;Spain=Europe;Portugal=Europe
Greece=Europe;Poland=Europe;Argentina=South America;Bolivia=South America;Ecuador=South America
Uruguay=South America;Morocco=Africa;Algeria=Africa;Tunisia=Africa;Sudan=Africa;Uganda=Africa
Angola=Africa;Zambia=Africa;Senegal=Africa;Mali=Africa;Nepal=Asia;Pakistan=Asia;Mongolia=Asia
Laos=Asia;Jamaica=North America;Haiti=North America;Panama=North America;Honduras=North America
Fiji=Oceania;Samoa=Oceania;Australia=Oceania;Finland=Europe;Latvia=Europe;Serbia=Europe
Croatia=Europe;Malta=Europe;Guyana=South America;Paraguay=South America;Chad=Africa;Niger=Africa
Togo=Africa""",
    ),
    "antonym": (
        (
            "What is the opposite of {}?",
            "Antonym of {}:",
            "Opposite: {}",
            "Name the opposite of {}.",
        ),
        """
ancient=modern;brave=cowardly;calm=excited;generous=stingy;humble=proud;lazy=hardworking
permanent=temporary;expand=shrink;increase=decrease;create=destroy;hire=fire;freeze=melt
float=sink;import=export;optimist=pessimist;minimum=maximum;majority=minority;visible=invisible
guest=host;master=servant;profit=loss;reward=punishment;success=failure;truth=lie;wisdom=folly
arrival=departure;appear=disappear;attract=repel;bless=curse;connect=disconnect;include=exclude
encourage=discourage;lend=borrow;praise=criticize;simple=complicated;smooth=rough;tame=wild
transparent=opaque;vertical=horizontal;abundant=scarce;artificial=natural;asleep=awake
bitter=sweet;blunt=sharp;bright=dim;careful=careless;common=rare;fresh=stale;gentle=harsh
tragic=comic;hollow=solid;innocent=guilty;junior=senior;knowledge=ignorance;legal=illegal
mature=immature;normal=abnormal;obey=disobey;patient=impatient;regular=irregular""",
    ),
    "german": (
        (
            'How do you say "{}" in German?',
            'German for "{}":',
            "Translate into German: {}",
        ),
        """
dog=Hund;cat=Katze;house=Haus;water=Wasser;bread=Brot;milk=Milch;book=Buch;school=Schule
friend=Freund;mother=Mutter;father=Vater;brother=Bruder;sister=Schwester;red=rot;blue=blau
green=grün;white=weiß;black=schwarz;one=eins;two=zwei;three=drei;four=vier;five=fünf;six=sechs
seven=sieben;eight=acht;nine=neun;ten=zehn;day=Tag;night=Nacht;sun=Sonne;moon=Mond;star=Stern
tree=Baum;flower=Blume;bird=Vogel;fish=Fisch;horse=Pferd;cow=Kuh;apple=Apfel;cheese=Käse
wine=Wein;city=Stadt;street=Straße;door=Tür;window=Fenster;table=Tisch;chair=Stuhl;bed=Bett
head=Kopf;hand=Hand;eye=Auge;heart=Herz;king=König;queen=Königin;sea=Meer;mountain=Berg
river=Fluss;car=Auto;train=Zug;good=gut;bad=schlecht;big=groß;small=klein;new=neu;old=alt
hot=heiß;cold=kalt;year=Jahr;month=Monat;week=Woche;time=Zeit;work=Arbeit;money=Geld;fire=Feuer
snow=Schnee;rain=Regen;wind=Wind""",
    ),
    "inventors": (
        (
            "Who invented or discovered {}?",
            "Inventor or discoverer of {}:",
            "{} is the work of whom?",
            "To whom do we owe {}?",
        ),
        """
the telephone=Alexander Graham Bell;the light bulb=Thomas Edison;the phonograph=Thomas Edison
dynamite=Alfred Nobel;the airplane=the Wright brothers;the printing press=Johannes Gutenberg
penicillin=Alexander Fleming;the law of gravity=Isaac Newton
the theory of relativity=Albert Einstein;radium=Marie Curie;X-rays=Wilhelm Röntgen
the theory of evolution=Charles Darwin;the laws of planetary motion=Johannes Kepler
the polio vaccine=Jonas Salk;the smallpox vaccine=Edward Jenner;pasteurization=Louis Pasteur
the World Wide Web=Tim Berners-Lee;the battery=Alessandro Volta
the lightning rod=Benjamin Franklin;the steam engine=James Watt;the cotton gin=Eli Whitney
the telegraph=Samuel Morse;the radio=Guglielmo Marconi;the assembly line=Henry Ford
the periodic table=Dmitri Mendeleev;the diesel engine=Rudolf Diesel;the electron=J. J. Thomson
the neutron=James Chadwick;oxygen=Joseph Priestley;the circulation of the blood=William Harvey
the laws of inheritance=Gregor Mendel;the quantum of action=Max Planck
the uncertainty principle=Werner Heisenberg;electromagnetic induction=Michael Faraday
alternating current motors=Nikola Tesla;the moons of Jupiter=Galileo Galilei
Uranus=William Herschel;black hole radiation=Stephen Hawking
the expansion of the universe=Edwin Hubble;psychoanalysis=Sigmund Freud
conditioned reflexes=Ivan Pavlov;logarithms=John Napier;the sewing machine=Elias Howe
the elevator brake=Elisha Otis;the safety razor=King Gillette;vulcanized rubber=Charles Goodyear
the reaper=Cyrus McCormick;the revolver=Samuel Colt;the barometer=Evangelista Torricelli
the pendulum clock=Christiaan Huygens""",
    ),
    "young": (
        (
            "What is a young {} called?",
            "Name for a baby {}:",
            "Young of the {}:",
            "{}: what is its young called?",
        ),
        """
dog=puppy;cat=kitten;cow=calf;horse=foal;sheep=lamb;goat=kid;pig=piglet;chicken=chick
duck=duckling;goose=gosling;swan=cygnet;lion=cub;bear=cub;tiger=cub;fox=kit;wolf=pup;seal=pup
kangaroo=joey;koala=joey;deer=fawn;frog=tadpole;butterfly=caterpillar;owl=owlet;eagle=eaglet
elephant=calf;whale=calf;dolphin=calf;giraffe=calf;hippopotamus=calf;rabbit=bunny;hare=leveret
otter=pup;bat=pup;fish=fry;eel=elver;turkey=poult;pigeon=squab;spider=spiderling;oyster=spat
salmon=parr;zebra=foal;donkey=foal;camel=calf;moose=calf;leopard=cub;panda=cub;hedgehog=hoglet
llama=cria;beaver=kit;squirrel=kit;monkey=infant;ape=infant;peacock=peachick;partridge=cheeper
falcon=eyas;mosquito=nymph;ant=larva;bee=larva;beetle=grub;fly=maggot""",
    ),
    "languages": (
        (
            "Which language do most people learn at school in {}?",
            "Official language of {}:",
            "Language of {}?",
            "What is spoken in {}?",
        ),
        """
Brazil=Portuguese;Portugal=Portuguese;Angola=Portuguese;Mexico=Spanish;Argentina=Spanish
Chile=Spanish;Peru=Spanish;Cuba=Spanish;Colombia=Spanish;Spain=Spanish;France=French
Haiti=French;Senegal=French;Gabon=French;Germany=German;Austria=German;Italy=Italian
Japan=Japanese;China=Chinese;Taiwan=Chinese;Russia=Russian;Egypt=Arabic;Iraq=Arabic
Morocco=Arabic;Jordan=Arabic;Saudi Arabia=Arabic;Libya=Arabic;Iran=Persian;Turkey=Turkish
Greece=Greek;Cyprus=Greek;Sweden=Swedish;Norway=Norwegian;Denmark=Danish;Finland=Finnish
Poland=Polish;Hungary=Hungarian;Romania=Romanian;Bulgaria=Bulgarian;Serbia=Serbian
Croatia=Croatian;Ukraine=Ukrainian;the Netherlands=Dutch;Suriname=Dutch;Israel=Hebrew
Thailand=Thai;Vietnam=Vietnamese;South Korea=Korean;Indonesia=Indonesian;Malaysia=Malay
Nepal=Nepali;Bangladesh=Bengali;Pakistan=Urdu;Ethiopia=Amharic;Iceland=Icelandic
Estonia=Estonian;Latvia=Latvian;Lithuania=Lithuanian;Albania=Albanian;Mongolia=Mongolian
Georgia=Georgian;Armenia=Armenian;Australia=English;Jamaica=English;Ghana=English
Nigeria=English""",
    ),
    "landmarks": (
        (
            "In which city is {}?",
            "City of {}:",
            "Where would you visit {}?",
            "{}: in which city?",
        ),
        """
the Eiffel Tower=Paris;the Louvre=Paris;Notre-Dame=Paris;the Colosseum=Rome;the Pantheon=Rome
the Trevi Fountain=Rome;Big Ben=London;Tower Bridge=London;Buckingham Palace=London
the Statue of Liberty=New York;Central Park=New York;Times Square=New York
the Golden Gate Bridge=San Francisco;Alcatraz=San Francisco;the White House=Washington
the Lincoln Memorial=Washington;the Brandenburg Gate=Berlin;the Reichstag=Berlin
the Sagrada Familia=Barcelona;Park Güell=Barcelona;the Prado=Madrid;the Acropolis=Athens
the Parthenon=Athens;the Kremlin=Moscow;Red Square=Moscow;the Hermitage=Saint Petersburg
the Forbidden City=Beijing;Tiananmen Square=Beijing;the Sydney Opera House=Sydney
Bondi Beach=Sydney;the Burj Khalifa=Dubai;the Taj Mahal=Agra;the Gateway of India=Mumbai
the Hagia Sophia=Istanbul;the Blue Mosque=Istanbul;the Western Wall=Jerusalem
the Great Sphinx=Giza;Christ the Redeemer=Rio de Janeiro;the CN Tower=Toronto
the Space Needle=Seattle;the Gateway Arch=St. Louis;the Liberty Bell=Philadelphia
Fenway Park=Boston;Wrigley Field=Chicago;the Willis Tower=Chicago;the Hollywood Sign=Los Angeles
the Alamo=San Antonio;Graceland=Memphis;the Little Mermaid=Copenhagen;the Vasa Museum=Stockholm
the Atomium=Brussels;the Rijksmuseum=Amsterdam;Schönbrunn=Vienna;Charles Bridge=Prague
Fisherman's Bastion=Budapest;the Uffizi=Florence;the Rialto Bridge=Venice;the Leaning Tower=Pisa
the Petronas Towers=Kuala Lumpur;Marina Bay Sands=Singapore;the Tokyo Skytree=Tokyo
Table Mountain=Cape Town""",
    ),
    "works": (
        (
            "Who painted, composed or built {}?",
            "Artist of {}:",
            "{} is by whom?",
            "Name the maker of {}.",
        ),
        """
the Mona Lisa=Leonardo da Vinci;The Last Supper=Leonardo da Vinci
The Starry Night=Vincent van Gogh;Sunflowers=Vincent van Gogh;Guernica=Pablo Picasso
The Scream=Edvard Munch;The Kiss=Gustav Klimt;Water Lilies=Claude Monet
The Night Watch=Rembrandt;Girl with a Pearl Earring=Johannes Vermeer
The Birth of Venus=Sandro Botticelli;David=Michelangelo;the Sistine Chapel ceiling=Michelangelo
The Thinker=Auguste Rodin;The Persistence of Memory=Salvador Dalí;American Gothic=Grant Wood
Campbell's Soup Cans=Andy Warhol;Nighthawks=Edward Hopper;Whistler's Mother=James Whistler
The School of Athens=Raphael;Las Meninas=Diego Velázquez;The Third of May 1808=Francisco Goya
Liberty Leading the People=Eugène Delacroix;The Great Wave=Hokusai
the Magic Flute=Wolfgang Amadeus Mozart;Don Giovanni=Wolfgang Amadeus Mozart
the Moonlight Sonata=Ludwig van Beethoven;Fidelio=Ludwig van Beethoven
the Four Seasons=Antonio Vivaldi;the Messiah=George Frideric Handel;Swan Lake=Pyotr Tchaikovsky
The Nutcracker=Pyotr Tchaikovsky;the Brandenburg Concertos=Johann Sebastian Bach
Carmen=Georges Bizet;La Traviata=Giuseppe Verdi;Aida=Giuseppe Verdi;La Bohème=Giacomo Puccini
Tosca=Giacomo Puccini;the Ring cycle=Richard Wagner;Bolero=Maurice Ravel
Clair de Lune=Claude Debussy;The Planets=Gustav Holst;the Rite of Spring=Igor Stravinsky
Rhapsody in Blue=George Gershwin;the Blue Danube=Johann Strauss;Peer Gynt=Edvard Grieg
The Creation=Joseph Haydn;Fallingwater=Frank Lloyd Wright;the Guggenheim in Bilbao=Frank Gehry
Saint Paul's Cathedral=Christopher Wren""",
    ),
    "acronyms": (
        (
            "What does {} stand for?",
            "{} in full:",
            "Write out {}.",
            "{} is short for what?",
        ),
        """
NASA=National Aeronautics and Space Administration;FBI=Federal Bureau of Investigation
CIA=Central Intelligence Agency;WHO=World Health Organization
UNESCO=United Nations Educational, Scientific and Cultural Organization
UNICEF=United Nations Children's Fund;NATO=North Atlantic Treaty Organization;EU=European Union
USA=United States of America;UK=United Kingdom;UN=United Nations;IMF=International Monetary Fund
GDP=gross domestic product;CEO=chief executive officer;CFO=chief financial officer
CPU=central processing unit;GPU=graphics processing unit;RAM=random access memory
ROM=read-only memory;USB=universal serial bus;HTML=hypertext markup language
HTTP=hypertext transfer protocol;URL=uniform resource locator;PDF=portable document format
ATM=automated teller machine;PIN=personal identification number;DNA=deoxyribonucleic acid
RNA=ribonucleic acid;AIDS=acquired immunodeficiency syndrome;HIV=human immunodeficiency virus
MRI=magnetic resonance imaging;ECG=electrocardiogram;LED=light-emitting diode
LCD=liquid crystal display;GPS=global positioning system;SUV=sport utility vehicle
UFO=unidentified flying object;NBA=National Basketball Association;NFL=National Football League
FIFA=International Federation of Association Football;BBC=British Broadcasting Corporation
IBM=International Business Machines;BMW=Bavarian Motor Works;AI=artificial intelligence
VPN=virtual private network;SQL=structured query language;API=application programming interface
FAQ=frequently asked questions;RSVP=please reply;PhD=doctor of philosophy""",
    ),
    "synonym": (
        (
            "Give a synonym of {}.",
            "Another word for {}:",
            "Synonym: {}",
            "Which word means the same as {}?",
        ),
        """
big=large;small=little;fast=quick;happy=glad;sad=unhappy;smart=clever;begin=start;end=finish
buy=purchase;help=assist;angry=mad;brave=courageous;rich=wealthy;tired=weary;easy=simple
hard=difficult;quiet=silent;loud=noisy;strange=odd;correct=right;wrong=incorrect;funny=amusing
scared=afraid;beautiful=pretty;ugly=unattractive;old=ancient;new=modern;huge=enormous
tiny=minute;choose=select;answer=reply;ask=inquire;speak=talk;look=gaze;shut=close;jump=leap
run=sprint;walk=stroll;throw=toss;hide=conceal;show=display;get=obtain;keep=retain
build=construct;destroy=demolish;repair=fix;gather=collect;allow=permit;forbid=prohibit
guess=estimate;journey=trip;gift=present;error=mistake;road=street;house=home;rock=stone
sea=ocean;sick=ill;calm=peaceful;kind=gentle""",
    ),
    "country": (
        (
            "{} is the capital of which country?",
            "Country of which {} is the capital:",
            "Capital: {}. Country?",
            "Which country is governed from {}?",
        ),
        """
Paris=France;Rome=Italy;Madrid=Spain;Berlin=Germany;Vienna=Austria;Warsaw=Poland;Athens=Greece
Ankara=Turkey;Cairo=Egypt;Nairobi=Kenya;Abuja=Nigeria;Accra=Ghana;Tokyo=Japan;Beijing=China
Bangkok=Thailand;Hanoi=Vietnam;Jakarta=Indonesia;Canberra=Australia;Ottawa=Canada;Havana=Cuba
Lima=Peru;Santiago=Chile;Buenos Aires=Argentina;Brasilia=Brazil;Oslo=Norway;Stockholm=Sweden
Helsinki=Finland;Copenhagen=Denmark;Reykjavik=Iceland;Dublin=Ireland;Lisbon=Portugal
Brussels=Belgium;Budapest=Hungary;Bucharest=Romania;Sofia=Bulgaria;Belgrade=Serbia
Zagreb=Croatia;Kyiv=Ukraine;Moscow=Russia;Tehran=Iran;Baghdad=Iraq;Damascus=Syria;Beirut=Lebanon
Amman=Jordan;Riyadh=Saudi Arabia;Rabat=Morocco;Tunis=Tunisia;Tripoli=Libya;Khartoum=Sudan
Kampala=Uganda;Dakar=Senegal;Luanda=Angola;Lusaka=Zambia;Harare=Zimbabwe;Kathmandu=Nepal
Islamabad=Pakistan;Dhaka=Bangladesh;Colombo=Sri Lanka;Manila=the Philippines;Seoul=South Korea
Caracas=Venezuela;Bogota=Colombia;Quito=Ecuador;Montevideo=Uruguay""",
    ),
    "french": (
        (
            'How do you say "{}" in French?',
            'French for "{}":',
            "Translate into French: {}",
        ),
        """
dog=chien;cat=chat;house=maison;water=eau;bread=pain;milk=lait;book=livre;school=école;friend=ami
mother=mère;father=père;brother=frère;sister=sœur;red=rouge;blue=bleu;green=vert;white=blanc
black=noir;one=un;two=deux;three=trois;four=quatre;five=cinq;seven=sept;eight=huit;nine=neuf;ten=dix
day=jour;night=nuit;sun=soleil;moon=lune;star=étoile;tree=arbre;flower=fleur;bird=oiseau
fish=poisson;horse=cheval;cow=vache;apple=pomme;cheese=fromage;wine=vin;city=ville;street=rue
door=porte;window=fenêtre;chair=chaise;bed=lit;head=tête;eye=œil;heart=cœur;king=roi;queen=reine
sea=mer;mountain=montagne;river=rivière;car=voiture;hello=bonjour;thanks=merci;yes=oui;no=non
man=homme;woman=femme;child=enfant;good=bon;bad=mauvais;big=grand;small=petit;new=nouveau;old=vieux
hot=chaud;cold=froid;year=an;month=mois;week=semaine;time=temps;work=travail;money=argent
food=nourriture;fire=feu;snow=neige;rain=pluie;wind=vent""",
    ),
    "nationality": (
        (
            "Of what nationality was {}?",
            "Nationality of {}:",
            "{}: from which people?",
            "What was {}, by nationality?",
        ),
        """
Albert Einstein=German;Isaac Newton=English;Marie Curie=Polish;Galileo Galilei=Italian
Leonardo da Vinci=Italian;Vincent van Gogh=Dutch;Pablo Picasso=Spanish;Salvador Dali=Spanish
Claude Monet=French;Napoleon Bonaparte=French;Charles Darwin=English;William Shakespeare=English
Wolfgang Amadeus Mozart=Austrian;Ludwig van Beethoven=German;Johann Sebastian Bach=German
Frederic Chopin=Polish;Leo Tolstoy=Russian;Fyodor Dostoevsky=Russian;Anton Chekhov=Russian
Pyotr Tchaikovsky=Russian;Sigmund Freud=Austrian;Franz Schubert=Austrian;Karl Marx=German
Immanuel Kant=German;Friedrich Nietzsche=German;Johannes Kepler=German;Nicolaus Copernicus=Polish
Rembrandt=Dutch;Johannes Vermeer=Dutch;Hans Christian Andersen=Danish;Niels Bohr=Danish
Soren Kierkegaard=Danish;Alfred Nobel=Swedish;Carl Linnaeus=Swedish;Ingmar Bergman=Swedish
Henrik Ibsen=Norwegian;Edvard Grieg=Norwegian;Edvard Munch=Norwegian;Roald Amundsen=Norwegian
Jean Sibelius=Finnish;James Joyce=Irish;Oscar Wilde=Irish;Samuel Beckett=Irish;Adam Smith=Scottish
David Hume=Scottish;James Watt=Scottish;Alexander Fleming=Scottish;Dante Alighieri=Italian
Michelangelo=Italian;Giuseppe Verdi=Italian;Marco Polo=Italian;Christopher Columbus=Italian
Miguel de Cervantes=Spanish;Francisco Goya=Spanish;Ferdinand Magellan=Portuguese
Vasco da Gama=Portuguese;Fernando Pessoa=Portuguese;Voltaire=French;Victor Hugo=French
Louis Pasteur=French;Edgar Degas=French;Claude Debussy=French;Auguste Rodin=French
Mahatma Gandhi=Indian;Rabindranath Tagore=Indian;Confucius=Chinese;Mao Zedong=Chinese
Akira Kurosawa=Japanese;Hokusai=Japanese;Plato=Greek;Aristotle=Greek;Socrates=Greek;Homer=Greek
Julius Caesar=Roman;Cicero=Roman;Mark Twain=American;Ernest Hemingway=American
Abraham Lincoln=American;Thomas Edison=American;Walt Disney=American;Elvis Presley=American
Franz Liszt=Hungarian;Bela Bartok=Hungarian;Antonin Dvorak=Czech;Franz Kafka=Czech""",
    ),
    "plurals": (
        (
            'What is the plural of "{}"?',
            "Plural: {}",
            "More than one {}:",
            "Many of one {}. Which word?",
        ),
        """
child=children;man=men;woman=women;foot=feet;tooth=teeth;goose=geese;mouse=mice;ox=oxen;leaf=leaves
knife=knives;wife=wives;wolf=wolves;shelf=shelves;half=halves;life=lives;thief=thieves;loaf=loaves
calf=calves;scarf=scarves;hoof=hooves;hero=heroes;potato=potatoes;tomato=tomatoes;echo=echoes
photo=photos;piano=pianos;radio=radios;cactus=cacti;fungus=fungi;nucleus=nuclei;syllabus=syllabi
radius=radii;analysis=analyses;basis=bases;crisis=crises;thesis=theses;hypothesis=hypotheses
oasis=oases;phenomenon=phenomena;criterion=criteria;datum=data;medium=media;bacterium=bacteria
curriculum=curricula;index=indices;matrix=matrices;vertex=vertices;appendix=appendices;city=cities
baby=babies;lady=ladies;country=countries;story=stories;party=parties;box=boxes;bus=buses
church=churches;dish=dishes;fox=foxes;glass=glasses;match=matches;wish=wishes;sheep=sheep;deer=deer
fish=fish;species=species;aircraft=aircraft;louse=lice;die=dice;passer-by=passers-by
mother-in-law=mothers-in-law;person=people;monkey=monkeys;key=keys;belief=beliefs;roof=roofs
chief=chiefs;volcano=volcanoes;mosquito=mosquitoes;alumnus=alumni;stimulus=stimuli;quiz=quizzes""",
    ),
    "past": (
        (
            'What is the past tense of "{}"?',
            "Past tense: {}",
            "Today I {}. Yesterday I ... Which form?",
        ),
        """
go=went;see=saw;eat=ate;drink=drank;run=ran;write=wrote;take=took;give=gave;make=made;come=came
know=knew;think=thought;buy=bought;bring=brought;catch=caught;teach=taught;find=found;feel=felt
keep=kept;leave=left;lose=lost;meet=met;pay=paid;say=said;sell=sold;send=sent;sing=sang;sit=sat
sleep=slept;speak=spoke;stand=stood;swim=swam;tell=told;wear=wore;win=won;break=broke;choose=chose
drive=drove;fall=fell;fly=flew;forget=forgot;get=got;grow=grew;hear=heard;hold=held;ride=rode
rise=rose;begin=began;bite=bit;blow=blew;build=built;dig=dug;draw=drew;fight=fought;forgive=forgave
freeze=froze;hang=hung;hide=hid;lead=led;lend=lent;lie=lay;light=lit;ring=rang;seek=sought
shake=shook;shine=shone;shoot=shot;sink=sank;slide=slid;spend=spent;spin=spun;steal=stole
stick=stuck;sting=stung;strike=struck;swear=swore;sweep=swept;swing=swung;tear=tore;throw=threw
wake=woke;weave=wove;weep=wept;wind=wound;bend=bent;bleed=bled;breed=bred;cling=clung;creep=crept
deal=dealt;flee=fled;grind=ground;kneel=knelt;mean=meant;shrink=shrank;spring=sprang""",
    ),
    "peoples": (
        (
            "What are people from {} called?",
            "Someone from {} is ...",
            "People of {}:",
            "{}: name of its people?",
        ),
        """
France=French;Germany=German;Italy=Italian;Spain=Spanish;Portugal=Portuguese;England=English
Scotland=Scottish;Ireland=Irish;Wales=Welsh;Denmark=Danish;Sweden=Swedish;Norway=Norwegian
Finland=Finnish;Iceland=Icelandic;Poland=Polish;Hungary=Hungarian;Austria=Austrian;Switzerland=Swiss
Greece=Greek;Turkey=Turkish;Russia=Russian;Ukraine=Ukrainian;Romania=Romanian;Bulgaria=Bulgarian
Serbia=Serbian;Croatia=Croatian;Albania=Albanian;China=Chinese;Japan=Japanese;Korea=Korean
Vietnam=Vietnamese;Thailand=Thai;India=Indian;Pakistan=Pakistani;Nepal=Nepali;Iran=Iranian
Iraq=Iraqi;Israel=Israeli;Egypt=Egyptian;Morocco=Moroccan;Algeria=Algerian;Tunisia=Tunisian
Kenya=Kenyan;Nigeria=Nigerian;Ghana=Ghanaian;Ethiopia=Ethiopian;South Africa=South African
Canada=Canadian;Mexico=Mexican;Brazil=Brazilian;Argentina=Argentine;Chile=Chilean;Peru=Peruvian
Colombia=Colombian;Venezuela=Venezuelan;Cuba=Cuban;Jamaica=Jamaican;Australia=Australian
New Zealand=New Zealander;the Netherlands=Dutch;Belgium=Belgian;Malta=Maltese;Cyprus=Cypriot
Lebanon=Lebanese;Syria=Syrian;Jordan=Jordanian;Mongolia=Mongolian;Malaysia=Malaysian
Indonesia=Indonesian;the Philippines=Filipino;Estonia=Estonian;Latvia=Latvian;Lithuania=Lithuanian
Afghanistan=Afghan;Bangladesh=Bangladeshi;Sudan=Sudanese;Senegal=Senegalese;Bolivia=Bolivian""",
    ),
    "abbreviations": (
        (
            "What is the postal abbreviation of {}?",
            "Two letters for {}:",
            "{} in two letters:",
            "Abbreviate the state {}.",
            "How is {} abbreviated on mail?",
        ),
        """
Alabama=AL;Alaska=AK;Arizona=AZ;Arkansas=AR;California=CA;Colorado=CO;Connecticut=CT;Delaware=DE
Florida=FL;Georgia=GA;Hawaii=HI;Idaho=ID;Illinois=IL;Indiana=IN;Iowa=IA;Kansas=KS;Kentucky=KY
Louisiana=LA;Maine=ME;Maryland=MD;Massachusetts=MA;Michigan=MI;Minnesota=MN;Mississippi=MS
Missouri=MO;Montana=MT;Nebraska=NE;Nevada=NV;New Hampshire=NH;New Jersey=NJ;New Mexico=NM
New York=NY;North Carolina=NC;North Dakota=ND;Ohio=OH;Oklahoma=OK;Oregon=OR;Pennsylvania=PA
Rhode Island=RI;South Carolina=SC;South Dakota=SD;Tennessee=TN;Texas=TX;Utah=UT;Vermont=VT
Virginia=VA;Washington=WA;West Virginia=WV;Wisconsin=WI;Wyoming=WY""",
    ),
    "protons": (
        (
            "What is the atomic number of {}?",
            "Atomic number, {}:",
            "How many protons has {}?",
            "{}: number of protons?",
        ),
        """
hydrogen=1;helium=2;lithium=3;beryllium=4;boron=5;carbon=6;nitrogen=7;oxygen=8;fluorine=9;neon=10
sodium=11;magnesium=12;aluminium=13;silicon=14;phosphorus=15;sulfur=16;chlorine=17;argon=18
potassium=19;calcium=20;scandium=21;titanium=22;vanadium=23;chromium=24;manganese=25;iron=26
cobalt=27;nickel=28;copper=29;zinc=30;gallium=31;germanium=32;arsenic=33;selenium=34;bromine=35
krypton=36;rubidium=37;strontium=38;yttrium=39;zirconium=40;niobium=41;molybdenum=42;technetium=43
ruthenium=44;rhodium=45;palladium=46;silver=47;cadmium=48;indium=49;tin=50;antimony=51;tellurium=52
iodine=53;xenon=54;cesium=55;barium=56;tungsten=74;platinum=78;gold=79;mercury=80;lead=82;bismuth=83
radon=86;radium=88;thorium=90;uranium=92;plutonium=94""",
    ),
    "sciences": (
        (
            "What does {} study?",
            "Subject of {}:",
            "{} is the science of what?",
            "In one word: {} is about ...",
            "What is {} about?",
        ),
        """
biology=life;botany=plants;zoology=animals;geology=rocks;astronomy=stars;meteorology=weather
psychology=the mind;sociology=society;anthropology=humans;archaeology=ruins;linguistics=language
entomology=insects;ornithology=birds;ichthyology=fish;herpetology=reptiles;mycology=fungi
virology=viruses;bacteriology=bacteria;cardiology=the heart;neurology=the nerves
dermatology=the skin;ophthalmology=the eye;nephrology=the kidneys;hepatology=the liver
hematology=blood;oncology=cancer;pediatrics=children;geriatrics=old age;genetics=heredity
ecology=environments;cytology=cells;histology=tissues;anatomy=the body;toxicology=poisons
pharmacology=drugs;seismology=earthquakes;volcanology=volcanoes;oceanography=oceans;hydrology=water
glaciology=glaciers;paleontology=fossils;chronology=time;theology=God;ethics=morals;logic=reasoning
economics=wealth;history=the past;geometry=shapes;arithmetic=numbers;optics=light;acoustics=sound
mechanics=motion;statistics=data;thermodynamics=heat;etymology=words;phonetics=speech
primatology=primates;criminology=crime;dendrology=trees;mineralogy=minerals;cosmology=the universe
epidemiology=epidemics;graphology=handwriting""",
    ),
    "rivers": (
        (
            "On which river does {} lie?",
            "River of {}:",
            "{}: on which river?",
            "Which river flows through {}?",
        ),
        """
London=Thames;Paris=Seine;Vienna=Danube;Budapest=Danube;Belgrade=Danube;Bratislava=Danube;Rome=Tiber
Florence=Arno;Pisa=Arno;Turin=Po;Cairo=Nile;Khartoum=Nile;Aswan=Nile;Baghdad=Tigris;Mosul=Tigris
Cologne=Rhine;Bonn=Rhine;Basel=Rhine;Strasbourg=Rhine;Dresden=Elbe;Hamburg=Elbe;Magdeburg=Elbe
Prague=Vltava;Warsaw=Vistula;Krakow=Vistula;Frankfurt=Main;Berlin=Spree;Munich=Isar;Bremen=Weser
Lyon=Rhone;Avignon=Rhone;Geneva=Rhone;Bordeaux=Garonne;Toulouse=Garonne;Nantes=Loire;Orleans=Loire
Tours=Loire;Lisbon=Tagus;Toledo=Tagus;Seville=Guadalquivir;Cordoba=Guadalquivir;Zaragoza=Ebro
Porto=Douro;Dublin=Liffey;Glasgow=Clyde;Liverpool=Mersey;Newcastle=Tyne;Bristol=Avon;Cardiff=Taff
Saint Petersburg=Neva;Moscow=Moskva;Volgograd=Volga;Kazan=Volga;Samara=Volga;Kyiv=Dnieper
New York=Hudson;Albany=Hudson;New Orleans=Mississippi;Saint Louis=Mississippi;Memphis=Mississippi
Minneapolis=Mississippi;Washington=Potomac;Philadelphia=Delaware;Pittsburgh=Ohio;Cincinnati=Ohio
Louisville=Ohio;Boston=Charles;Montreal=Saint Lawrence;Quebec=Saint Lawrence;Manaus=Amazon
Iquitos=Amazon;Shanghai=Yangtze;Wuhan=Yangtze;Nanjing=Yangtze;Chongqing=Yangtze;Varanasi=Ganges
Kolkata=Hooghly;Delhi=Yamuna;Agra=Yamuna;Kinshasa=Congo;Brazzaville=Congo;Bangkok=Chao Phraya
Phnom Penh=Mekong;Vientiane=Mekong;Yangon=Irrawaddy;Mandalay=Irrawaddy;Melbourne=Yarra
Perth=Swan""",
    ),
    "tools": (
        (
            "What does one use a {} for?",
            "Use of a {}:",
            "A {} is made to ...",
            "What is a {} for?",
        ),
        """
knife=cut;pen=write;broom=sweep;needle=sew;shovel=dig;spoon=eat;key=unlock;hammer=hit nails
saw=cut wood;camera=take pictures;telephone=call;clock=tell time;ruler=measure;scale=weigh
thermometer=measure temperature;telescope=see stars;microscope=see small things;oven=bake
kettle=boil water;refrigerator=keep food cold;lamp=give light;candle=give light
umbrella=keep off rain;brush=paint;comb=comb hair;razor=shave;towel=dry;soap=wash;bed=sleep
chair=sit;car=drive;boat=sail;airplane=fly;bicycle=ride;ladder=climb;rope=tie;glue=stick
eraser=erase;scissors=cut paper;calculator=calculate;computer=compute;printer=print;radio=listen
television=watch;guitar=play music;whistle=blow;drum=beat;map=find the way;compass=find north
wallet=hold money;bag=carry;box=store;bottle=hold water;cup=drink;plate=serve food;fork=eat;fan=cool
heater=warm;iron=iron clothes;lock=lock;bell=ring;mirror=see oneself;net=catch fish;hook=hang
axe=chop wood;drill=make holes;screwdriver=turn screws;stapler=staple;filter=filter;pump=pump
sponge=wipe;mop=mop;rake=gather leaves;wheelbarrow=carry loads;tent=camp;torch=give light""",
    ),
}
