import java.io.File;
import java.util.TreeSet;
import org.verapdf.gf.foundry.VeraGreenfieldFoundryProvider;
import org.verapdf.pdfa.Foundries;
import org.verapdf.pdfa.flavours.PDFAFlavour;
import org.verapdf.pdfa.results.TestAssertion;

public class VeraPdf {
    public static void main(String[] files) throws Exception {
        VeraGreenfieldFoundryProvider.initialise();
        for (String file : files) {
            PDFAFlavour flavour = PDFAFlavour.byFlavourId(new File(file).getName().substring(0, 2));
            try (var parser = Foundries.defaultInstance().createParser(new File(file), flavour);
                    var validator = Foundries.defaultInstance().createValidator(flavour, false)) {
                var result = validator.validate(parser);
                var broken = new TreeSet<String>();
                for (TestAssertion assertion : result.getTestAssertions()) {
                    if (assertion.getStatus() == TestAssertion.Status.FAILED)
                        broken.add(assertion.getRuleId().getClause() + "-" + assertion.getRuleId().getTestNumber());
                }
                System.out.println(new File(file).getName() + "\t" + result.isCompliant() + "\t" + String.join(" ", broken));
            }
        }
    }
}
