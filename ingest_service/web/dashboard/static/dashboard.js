// The pages are whole without this; it keeps them up to date and lends a hand.
import { keepFresh } from "./live.js";
import { tick, tell } from "./times.js";
import { rove } from "./roving.js";
import { offerCopies } from "./copy.js";
import { countChosen } from "./choosing.js";
import { planAsTyped } from "./submit.js";
import { closeOthers } from "./popovers.js";

tell(document);
tick();
rove();
offerCopies();
countChosen();
planAsTyped();
closeOthers();
keepFresh();
