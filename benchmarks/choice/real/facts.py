"""Facts of which a small model knows some: our own, each asked in several ways.

The limits that tell half known facts from wrong rows were set by hand on the first seven and
`landmarks`. After the others had been seen one limit was moved, from four fifths of the tokens
to three quarters, since it hid wrong rows.
"""

from __future__ import annotations

import random

__all__ = ["names", "questions"]


def names() -> tuple[str, ...]:
    """The lists of facts."""
    return tuple(_FACTS)


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
}
