"""Words that are no wish by themselves, and words behind which something is not wanted.

Belongs here: closed classes of words (articles, pronouns, prepositions, auxiliaries, numbers, days,
words of liking, buying and living) in English and German. Does not belong here: anything a shop
might sell, and what a diet rules out (`diets.py`). Words that are also goods in the other language
("bin", "hat") are left out.
"""

# ruff: noqa: SIM905 - a table of words reads best as words

_ENGLISH = """
    a about above across after again against all almost along already also although always am
    among an and another any anybody anyone anything are around as ask at away baby's back be
    because been before behind being below besides best better between big bit both bring but
    buy buying by can come cook cooking cooks could day days did do does doing done down during
    each eat eating eats either else enjoy enjoys enough especially etc even ever every
    everybody everyone everything family far favorite favorites favourite favourites few find
    fine food foods for friend friends from get gets getting give go goes going good great guest
    guests had has have having he hello help her here hers hi him his home house household how
    however husband i i'd i'll i'm i've if in instead into is it it's its just keep keeps kind
    kinds know last lately later lazy least let like likes little live lives living look looking
    looks lot lots love lover lovers loves made mainly make makes making man many may maybe me
    meal meals member members might mine month months more most mostly much must my myself near
    nearly need needs never new next nice night nights no nobody not now of off often oh ok old
    on once only onto or order other others our out over own people per perhaps person planning
    plans please plenty prefer prefers preferably put quite rarely rather really recipe recipes
    regularly search searching seek seeking shall she shop shopping should since so some
    somebody someone something sometimes soon sort still stuff such take takes tend than thank
    thanks that that's the their theirs them then there these they they're thing things think
    this those though through throughout time times to together tonight too toward towards try
    trying twice under until up upon us use used usual usually various very via want wants was
    we we're we've week weekend weekends weeks well were what when where which while who whom
    whose why wife will wish wishes with within woman work working works would year years yes
    yet you your yours
    monday mondays tuesday tuesdays wednesday wednesdays thursday thursdays friday fridays
    saturday saturdays sunday sundays morning mornings noon afternoon afternoons evening
    evenings daily weekly monthly today tomorrow
    one two three four five six seven eight nine ten eleven twelve dozen hundred first second
    third single couple double several half
"""

_GERMAN = """
    aber alle allem allen aller alles als also am andere anderen auch auf aus bei beim besonders bis
    bitte brauche brauchen braucht da dann das dass dein dem den der des die dies diese diesem
    diesen dieser dieses doch dort du durch ein eine einem einen einer eines einfach einige er es
    esse essen etwas euch euer fast für ganz gerade gern gerne gut gute guten hab habe haben ich ihm
    ihn ihnen ihr ihre ihren im immer ins isst ist jede jeden jeder jedes jetzt kann kaufe kaufen
    können koche kochen kocht lebe leben liebe lieben liebt lieber mag mal man manchmal mehr mein
    meine meinem meinen meiner meist meistens mich mir mit möchte möchten mögen mögt nach noch nur
    ob oder oft ohnehin schon sehr seit sich sie sind so sowie statt suche suchen über um und uns
    unser unsere unseren unserer unter viel viele vielen vom von vor wann war was weil wenn wer wie
    wir wird wo wochenende woche wollen zu zum zur zusammen zwei drei vier fünf
    familie haushalt freunde leute mann frau tag tage jahr jahre
    montag dienstag mittwoch donnerstag freitag samstag sonntag
"""

ORDINARY = frozenset((_ENGLISH + _GERMAN).split())
"""Words that are no wish by themselves. "food" and "meal" count within a query, not alone."""

WITHIN = frozenset("food foods meal meals".split())
"""Ordinary words that belong to a query once it has begun: "thai food"."""

SUBJECTS = frozenset("i i'm i've we we're we've they he she love like want enjoy prefer".split())
"""With one of these a new clause begins, and a list of things not wanted is over."""

NEGATIONS = frozenset(
    """
    allergic allergies allergy aren't avoid avoiding avoids can't cannot cant dislike dislikes
    doesn't doesnt don't dont except exclude excluding hate hates intolerance intolerances
    intolerant isn't less minus never no
    not nothing refuse skip without won't wont
    außer allergie allergisch kein keine keinem keinen keiner meide meiden nicht nie nichts ohne
    weder
    """.split()
)
"""What stands behind one of these in a clause is avoided."""

AILMENTS = frozenset("allergies allergy intolerance intolerances intolerant".split())
"""Negations that may stand behind their thing: "a nut allergy"."""

LISTING = AILMENTS | frozenset(
    "allergic allergie allergisch avoid avoids dislike dislikes exclude hate hates".split()
)
"""Negations of which a list of things follows."""

EATING = frozenset("drink drinks eat eats enjoy like likes stand tolerate want wants".split())
"""Verbs with which a negation is one of them: "I don't eat pork, beef"."""
